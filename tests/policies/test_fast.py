"""Acting without modules gives their actions, follows the weights, and steps aside elsewhere."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.policies.common import DENSITIES, ac_policy
from vaerl.agents import SAC
from vaerl.policies import ActorCriticPolicy, SACPolicy
from vaerl.policies.actor import DensityActor

OBS = spaces.Box(-np.inf, np.inf, (5,), np.float64)
ACT = spaces.Box(np.float32([-1, 0, 2]), np.float32([1, 5, 3]))
FOLDED = tuple(name for name in DENSITIES if name != "flow")
CLOSE = {"rtol": 0.0, "atol": 1e-4}
"""Float32 rounds by 6e-8; ten products of at most 32 terms of about 1 add up to 10·32·6e-8 = 2e-5
of an action's unit or less, σ ≤ e² of a latent multiplies it by at most 7."""
LOG_CLOSE = {"rtol": 0.0, "atol": 2e-3}
"""Log-densities: σ near 0.3 and points within 4σ, so 4/0.3 times the error of a mean, or less."""


class Box(gym.Env):
    """Five numbers seen, three chosen in an uneven box; nothing happens."""

    observation_space, action_space = OBS, ACT

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        return np.zeros(5), {}


def moved(policy: Any, by: float = 0.1) -> Any:
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return policy


def make_actor(density: str = "cvae", **options: Any) -> DensityActor:
    torch.manual_seed(0)
    kwargs = {"net_arch": [16, 16], "density_kwargs": options}
    return moved(SAC(density, Box(), buffer_size=10, policy_kwargs=kwargs).actor)


def slow(actor: DensityActor, obs: np.ndarray, deterministic: bool = True) -> np.ndarray:
    with torch.no_grad():
        return actor(torch.as_tensor(obs, dtype=torch.float32), deterministic).numpy()


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 5))


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("density", FOLDED)
def test_actions_are_those_of_the_module(density: str, count: int) -> None:
    """Draws and modes, call after call of the policy's random stream."""
    actor, obs = make_actor(density), rows(count)
    for deterministic in (False, True):
        actor.noise.reseed(3)
        expected = [slow(actor, obs, deterministic) for _ in range(3)]
        calls = actor.noise.calls
        actor.noise.reseed(3)
        for wanted in expected:
            np.testing.assert_allclose(actor.act(obs, deterministic), wanted, **CLOSE)
        assert actor.noise.calls == calls


@pytest.mark.parametrize("fused", [False, True])
def test_it_follows_the_weights(fused: bool) -> None:
    """Changes in place, steps of any optimiser, new memory, new parts, other options."""
    actor, obs = make_actor(), rows(1)
    actor.optimizer = torch.optim.Adam(actor.parameters(), lr=0.1, fused=fused)
    before = actor.act(obs, True)
    for parameter in actor.parameters():
        parameter.grad = torch.ones_like(parameter)
    actor.optimizer.step()
    after = actor.act(obs, True)
    assert before is not None and after is not None and np.abs(after - before).max() > 1e-3
    for change in (
        lambda: actor.optimizer.step(),
        lambda: [p.detach().mul_(0.9) for p in actor.parameters()],
        lambda: [setattr(p, "data", p.data.clone() * 0.9) for p in actor.parameters()],
        lambda: setattr(actor, "latent_pi", torch.nn.Sequential(torch.nn.Linear(5, 16))),
        lambda: actor.latent_pi.append(torch.nn.Tanh()),
        lambda: setattr(actor, "num_candidates", 3),
    ):
        change()
        np.testing.assert_allclose(actor.act(obs, True), slow(actor, obs), **CLOSE)


def test_a_copy_has_weights_of_its_own() -> None:
    actor, obs = make_actor(), rows(1)
    before = actor.act(obs, True)
    for other in (copy.deepcopy(actor), pickle.loads(pickle.dumps(actor))):
        moved(other)
        np.testing.assert_allclose(other.act(obs, True), slow(other, obs), **CLOSE)
        np.testing.assert_array_equal(actor.act(obs, True), before)


def test_it_normalises_by_the_moments_of_today() -> None:
    """They change with every step, the fast form does not."""
    agent = SAC("cvae", Box(), buffer_size=10, seed=0, normalize_observations=True)
    actor, obs = agent.actor, rows(3)
    fast = set()
    for spread in (2.0, 5.0):
        agent.policy.normalizer.update(spread * rows(20) + 1.0)
        np.testing.assert_allclose(actor.act(obs, True), slow(actor, obs), **CLOSE)
        fast.add(actor._fast._found)
    assert len(fast) == 1


def test_other_parts_are_left_to_the_modules() -> None:
    """A density without a fast form, overridden methods, hooks, odd trunks and observations."""
    obs = rows(1)
    assert make_actor("flow").act(obs) is None

    class Own(DensityActor):
        pass

    actor = make_actor()
    actor.__class__ = Own
    assert actor.act(obs) is None

    class Still(SACPolicy):
        def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
            return torch.zeros(len(observation), 3)

    policy = Still(OBS, ACT, lambda _: 1e-3, net_arch=[16])
    np.testing.assert_allclose(policy.scale_action(policy.predict(obs)[0]), 0.0, atol=1e-6)

    actor = make_actor()
    assert actor.act(np.zeros((0, 5))) is None
    assert actor.act(np.zeros((1, 5), complex)) is None
    assert actor.act(np.full((1, 5), np.nan)) is None
    assert actor.noise.calls == 0
    handle = actor.latent_pi[0].register_forward_hook(lambda *_: None)
    assert actor.act(obs) is None
    handle.remove()
    assert actor.act(obs) is not None
    actor.latent_pi.append(torch.nn.LayerNorm(16))
    assert actor.act(obs) is None


def test_predict_keeps_sb3s_shapes_and_errors() -> None:
    model = SAC("cvae", Box(), buffer_size=10, policy_kwargs={"net_arch": [16]})
    for shape in ((5,), (1, 5), (7, 5), (100, 5)):
        actions, state = model.predict(np.zeros(shape))
        assert state is None and actions.shape == (*shape[:-1], 3)
        assert (actions >= ACT.low).all() and (actions <= ACT.high).all()
    with pytest.raises(ValueError, match="shape"):
        model.predict(np.zeros((2, 6)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.predict(np.full(5, np.nan))
    with pytest.raises(ValueError, match="empty shape"):
        model.predict(np.zeros((0, 5)))


# -- steps of a rollout ----------------------------------------------------------------------------


def step(policy: ActorCriticPolicy, obs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return policy(obs)


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("density", FOLDED)
def test_a_rollouts_step_is_that_of_the_modules(density: str, squash: bool, count: int) -> None:
    """Actions, values and log π from the same noise, and log π as the update finds it."""
    policy = moved(ac_policy(density, OBS, ACT, squash_output=squash))
    policy.set_training_mode(False)
    obs = torch.as_tensor(rows(count))
    policy.noise.reseed(3)
    expected = [policy(obs) for _ in range(3)]  # with gradients, which only the modules give
    policy.noise.reseed(3)
    for actions, values, _ in expected:
        found = step(policy, obs)
        torch.testing.assert_close(found[0], actions.detach(), **CLOSE)
        torch.testing.assert_close(found[1], values.detach(), **CLOSE)
        again = policy.get_distribution(obs).log_prob(found[0]).detach()
        torch.testing.assert_close(found[2], again, **LOG_CLOSE)
    for deterministic in (False, True):
        policy.noise.reseed(5)
        with torch.no_grad():
            found = policy._predict(obs, deterministic)
        policy.noise.reseed(5)
        torch.testing.assert_close(found, policy._predict(obs, deterministic).detach(), **CLOSE)


def test_a_rollout_follows_weights_and_codes() -> None:
    policy = moved(ac_policy("cvae", OBS, ACT))
    policy.set_training_mode(False)
    obs = torch.as_tensor(rows(1))
    for _ in range(3):
        step(policy, obs)  # the first step after an update draws codes
        policy.noise.reseed(1)
        found = step(policy, obs)
        policy.noise.reseed(1)
        torch.testing.assert_close(found[0], policy(obs)[0].detach(), **CLOSE)
        policy.set_training_mode(True)
        policy.set_training_mode(False)
        policy.evaluate_actions(obs, found[0])[1].sum().backward()
        policy.optimizer.step()


@pytest.mark.parametrize(
    "options",
    [{"features_extractor_class": None}, {"activation_fn": torch.nn.PReLU}, {"density": "flow"}],
)
def test_other_policies_are_left_to_the_modules(options: dict[str, Any]) -> None:
    """Rows of an image, an activation with weights, a density without a fast form."""
    image = spaces.Box(-1.0, 1.0, (2, 3))
    space = image if "features_extractor_class" in options else OBS
    policy = ac_policy(obs=space, act=ACT, **({"density": "cvae"} | options))
    policy.set_training_mode(False)
    obs = torch.as_tensor(np.stack([space.sample() for _ in range(2)]))
    with torch.no_grad():
        assert policy._fast_step(obs) is None
    assert torch.isfinite(step(policy, obs)[0]).all()


def test_what_is_not_finite_is_left_to_the_modules() -> None:
    policy = ac_policy("gaussian", OBS, ACT)
    calls = policy.noise.calls
    with pytest.raises(ValueError, match="NaN or infinity"):
        step(policy, torch.full((1, 5), torch.nan))
    assert policy.noise.calls == calls
