"""Acting in numpy gives the module's own actions, follows its weights, steps aside elsewhere."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from vaerl.agents import SAC
from vaerl.policies import SACPolicy
from vaerl.policies.sac import DensityActor

HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("gaussian", {}),
    "mixture prior": ("cvae", {}),
    "learned weights": ("cvae", {"prior_weights": "learned"}),
    "gaussian prior": ("cvae", {"prior": "gaussian", "blocks": 2}),
    "standard prior": ("cvae", {"prior": "standard", "blocks": 0}),
    "three layers": ("cvae", {"latent_dims": (4, 3, 2)}),
}


class Box(gym.Env):
    """Five numbers seen, three chosen in an uneven box; nothing happens."""

    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float64)
    action_space = spaces.Box(np.float32([-1, 0, 2]), np.float32([1, 5, 3]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        return np.zeros(5), {}


def make_actor(density: str, options: dict[str, Any]) -> DensityActor:
    torch.manual_seed(0)
    kwargs = {"net_arch": [16, 16], "density_kwargs": options}
    actor = SAC(density, Box(), buffer_size=10, policy_kwargs=kwargs).actor
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return actor


def slow(actor: DensityActor, obs: np.ndarray, deterministic: bool) -> np.ndarray:
    with torch.no_grad():
        return actor(torch.as_tensor(obs, dtype=torch.float32), deterministic).numpy()


@pytest.mark.parametrize("rows", [1, 4, 50])
@pytest.mark.parametrize("head", HEADS)
def test_actions_are_those_of_the_module(head: str, rows: int) -> None:
    actor = make_actor(*HEADS[head])
    obs = np.random.default_rng(0).normal(size=(rows, 5))
    for deterministic in (False, True):
        actor.noise.reseed(3)
        expected = [slow(actor, obs, deterministic) for _ in range(3)]
        calls = actor.noise.calls
        actor.noise.reseed(3)
        for wanted in expected:
            found = actor.act(obs, deterministic)
            if deterministic and rows == 50:
                assert found is None
                continue
            assert found is not None
            np.testing.assert_allclose(found, wanted, atol=2e-4)
        assert actor.noise.calls == (calls if found is not None else 0)


def test_it_follows_the_weights() -> None:
    actor, obs = make_actor("cvae", {}), np.ones((1, 5))
    before = actor.act(obs, True)
    for parameter in actor.parameters():
        parameter.grad = torch.ones_like(parameter)
    actor.optimizer = torch.optim.Adam(actor.parameters(), lr=0.1)
    actor.optimizer.step()
    after = actor.act(obs, True)
    assert before is not None and after is not None and np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, slow(actor, obs, True), atol=2e-4)
    for parameter in actor.parameters():
        parameter.data = parameter.data.clone() * 0.5  # new memory, as after .to(device)
    np.testing.assert_allclose(actor.act(obs, True), slow(actor, obs, True), atol=2e-4)


def test_a_copy_has_weights_of_its_own() -> None:
    actor, obs = make_actor("cvae", {}), np.ones((1, 5))
    before = actor.act(obs, True)
    for other in (copy.deepcopy(actor), pickle.loads(pickle.dumps(actor))):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(0.5)
        np.testing.assert_allclose(other.act(obs, True), slow(other, obs, True), atol=2e-4)
        np.testing.assert_array_equal(actor.act(obs, True), before)


def test_double_precision_is_left_to_the_module() -> None:
    actor = make_actor("cvae", {})
    assert actor.act(np.ones((1, 5))) is not None
    assert actor.double().act(np.ones((1, 5))) is None


@pytest.mark.parametrize("density", ["flow", "mixture"])
def test_other_densities_are_left_to_the_module(density: str) -> None:
    assert make_actor(density, {}).act(np.ones((1, 5))) is None


def test_predict_keeps_sb3s_shapes_and_errors() -> None:
    model = SAC("cvae", Box(), buffer_size=10, policy_kwargs={"net_arch": [16]})
    low, high = model.action_space.low, model.action_space.high
    for shape in ((5,), (1, 5), (7, 5), (100, 5)):
        actions, state = model.predict(np.zeros(shape))
        assert state is None and actions.shape == (*shape[:-1], 3)
        assert (actions >= low).all() and (actions <= high).all()
    with pytest.raises(ValueError, match="shape"):
        model.predict(np.zeros((2, 6)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.predict(np.full(5, np.nan))


def test_what_is_overridden_watched_or_replaced_is_followed() -> None:
    class Still(SACPolicy):
        def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
            return torch.zeros(len(observation), 3)

    obs, box = np.ones((1, 5)), Box()
    policy = Still(box.observation_space, box.action_space, lambda _: 1e-3, net_arch=[16])
    np.testing.assert_allclose(policy.scale_action(policy.predict(obs)[0]), 0.0, atol=1e-6)

    class Own(DensityActor):
        pass

    actor = make_actor("cvae", {})
    actor.__class__ = Own
    assert actor.act(obs) is None

    for density in ("cvae", "gaussian"):
        actor = make_actor(density, {})
        assert actor.act(obs, True) is not None
        actor.latent_pi = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU())
        np.testing.assert_allclose(actor.act(obs, True), slow(actor, obs, True), atol=2e-4)
        actor.latent_pi[0] = torch.nn.Linear(5, 16)
        np.testing.assert_allclose(actor.act(obs, True), slow(actor, obs, True), atol=2e-4)
        actor.num_candidates = 3
        np.testing.assert_allclose(actor.act(obs, True), slow(actor, obs, True), atol=2e-4)
        handle = actor.latent_pi[0].register_forward_hook(lambda *_: None)
        assert actor.act(obs) is None
        handle.remove()
        assert actor.act(obs) is not None


def test_what_is_not_finite_or_no_number_is_left_to_the_module() -> None:
    actor = make_actor("cvae", {})
    for obs in (np.full((1, 5), 1e30), np.zeros((0, 5)), np.zeros((1, 5), complex)):
        calls = actor.noise.calls
        for deterministic in (False, True):
            assert actor.act(obs, deterministic) is None
        assert actor.noise.calls == calls
    model = SAC("cvae", Box(), buffer_size=10, policy_kwargs={"net_arch": [16]})
    with pytest.raises(ValueError, match="empty shape"):
        model.predict(np.zeros((0, 5)))
