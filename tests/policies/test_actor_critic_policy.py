"""The on-policy policy keeps SB3's contract, for every density, with an exact log-density."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import ARS, TQC, TRPO, RecurrentPPO
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import kl_divergence

import vaerl.agents
from tests.policies.common import (
    ACT,
    DENSITIES,
    OBS,
    SPACES,
    TinyEnv,
    ac_policy,
    observations,
)
from vaerl.data import Demonstrations
from vaerl.densities import IntractableError
from vaerl.densities.squash import SquashedValue
from vaerl.policies import ActorCriticPolicy, SACPolicy


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("batch", [1, 4])
def test_shapes_and_one_log_prob(density: str, kind: str, squash: bool, batch: int) -> None:
    """forward gives (n, d), (n, 1), (n,); evaluate_actions finds the same log π again."""
    policy = ac_policy(density, SPACES[kind], squash_output=squash)
    obs = observations(SPACES[kind], batch)
    actions, values, log_prob = policy(obs)
    assert actions.shape == (batch, 2)
    assert values.shape == (batch, 1)
    assert log_prob.shape == (batch,)
    again, stored, entropy = policy.evaluate_actions(obs, actions.detach())
    assert torch.equal(again, values)
    assert torch.allclose(stored, log_prob, rtol=0.0, atol=1e-5)  # sums of another order
    assert entropy.shape == (batch,)
    assert policy.predict_values(obs).shape == (batch, 1)
    assert policy(obs, deterministic=True)[0].shape == (batch, 2)
    assert policy.squash_output is squash
    if squash:
        assert actions.abs().max() < 1.0


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("squash", [False, True])
def test_log_prob_is_the_density_of_the_actions_drawn(density: str, squash: bool) -> None:
    """Over own actions the mean of log π is minus the entropy, which evaluate_actions reports."""
    policy = ac_policy(density, squash_output=squash, entropy_samples=64)
    obs = observations(OBS, 1).expand(2048, -1)
    with torch.no_grad():
        _, _, log_prob = policy(obs)
    _, _, entropy = policy.evaluate_actions(obs, torch.zeros(2048, 2))
    assert torch.isclose(-log_prob.mean(), entropy.mean(), rtol=0.0, atol=0.1)


@pytest.mark.parametrize("density", DENSITIES)
def test_log_prob_integrates_to_one(density: str) -> None:
    """What PPO compares is a normalised density."""
    act = spaces.Box(-1.0, 1.0, (1,), np.float32)
    for squash in (False, True):
        policy = ac_policy(density, act=act, squash_output=squash)
        edge = 0.9999 if squash else 12.0
        grid = torch.linspace(-edge, edge, 4001)
        distribution = policy.get_distribution(observations(OBS, 1).expand(4001, -1))
        with torch.no_grad():
            mass = torch.trapezoid(distribution.log_prob(grid[:, None]).exp(), grid)
        assert torch.isclose(mass, torch.ones(()), rtol=0.0, atol=5e-3), mass


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("squash", [False, True])
def test_entropy_is_there_and_differentiable(density: str, squash: bool) -> None:
    """Its gradient is that of the true entropy: wider parts, larger entropy."""
    policy = ac_policy(density, squash_output=squash)
    _, _, entropy = policy.evaluate_actions(observations(OBS, 8), torch.zeros(8, 2))
    assert entropy is not None
    entropy.mean().backward()
    heads = [p for n, p in policy.density.named_parameters() if "recognition" not in n]
    assert sum(p.grad.abs().sum() for p in heads if p.grad is not None) > 0.0
    assert entropy.shape == (8,)


def test_weights_of_a_mixture_get_the_gradient_of_the_entropy() -> None:
    """Unequal weights rise towards equal ones when the entropy is maximised over far parts."""
    policy = ac_policy("mixture", density_kwargs={"components": 2}, entropy_samples=4)
    density = policy.density
    with torch.no_grad():
        density.logits.bias.copy_(torch.tensor([1.0, -1.0]))
        density.logits.weight.zero_()
        density.head.weight.zero_()
        density.head.bias.copy_(torch.tensor([5.0, 5.0, -5.0, -5.0, 0.0, 0.0, 0.0, 0.0]))
    _, _, entropy = policy.evaluate_actions(observations(OBS, 256), torch.zeros(256, 2))
    entropy.mean().backward()
    share = torch.softmax(torch.tensor([1.0, -1.0]), 0)
    slope = share[0] * share[1] * (share[1].log() - share[0].log())  # of H(w) in the first logit
    assert torch.isclose(density.logits.bias.grad[0], slope, rtol=0.0, atol=0.02)


def test_codes_change_once_a_rollout() -> None:
    """Fresh codes at the first step after training; predictions and further steps keep them."""
    policy, obs = ac_policy("cvae"), observations(OBS, 2)
    codes = policy.codes.codes.clone()
    policy.set_training_mode(False)
    policy(obs)
    assert torch.equal(policy.codes.codes, codes)
    policy.set_training_mode(True)
    policy.evaluate_actions(obs, torch.zeros(2, 2))
    policy.predict(obs.numpy())
    assert torch.equal(policy.codes.codes, codes)
    policy(obs)
    fresh = policy.codes.codes.clone()
    assert not torch.equal(fresh, codes)
    policy(obs)
    policy.predict(obs.numpy())
    assert torch.equal(policy.codes.codes, fresh)


def test_codes_travel_with_the_state() -> None:
    """Codes, the mark that they were used, and the noise behind fresh ones are saved and loaded."""
    policy = ac_policy("cvae")
    codes = policy.codes.codes.clone()
    policy.set_training_mode(True)
    other = ac_policy("cvae", density_kwargs={})
    other.noise.reseed(99)
    other.load_state_dict(policy.state_dict())
    for twin in (other, copy.deepcopy(policy)):
        assert torch.equal(twin.codes.codes, policy.codes.codes)
    for twin in (policy, other):
        twin.set_training_mode(False)
        twin(observations(OBS, 1))
    assert not torch.equal(policy.codes.codes, codes)
    assert torch.equal(other.codes.codes, policy.codes.codes)


def test_deterministic_action_does_not_depend_on_codes() -> None:
    """It is the densest candidate of the density itself, and repeats."""
    policy = ac_policy("cvae")
    obs = np.zeros((4, 3), np.float32)
    first = policy.predict(obs, deterministic=True)[0]
    policy.set_training_mode(True)
    assert np.array_equal(policy.predict(obs, deterministic=True)[0], first)


@pytest.mark.parametrize("density", DENSITIES)
def test_optimizer_owns_what_the_policy_gradient_reaches(density: str) -> None:
    """All parameters but the recognition network's, which have their own in vaerl's PPO."""
    policy = ac_policy(density)
    owned = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    actions, values, log_prob = policy(observations(OBS, 64))
    weights = torch.linspace(-1.0, 1.0, 64)
    _, again, _ = policy.evaluate_actions(observations(OBS, 64), actions.detach())
    ((again * weights).mean() + values.mean() + 0.0 * log_prob.mean()).backward()
    for name, parameter in policy.named_parameters():
        assert (id(parameter) in owned) is ("recognition" not in name), name
        if id(parameter) in owned:
            assert parameter.grad is not None, name
        else:
            assert parameter.grad is None or not parameter.grad.any(), name
    assert bool(policy.recognition_parameters()) is (density == "cvae")


@pytest.mark.parametrize("density", DENSITIES)
def test_train_and_eval_agree(density: str) -> None:
    """A mode switch alone changes no log-probability."""
    policy = ac_policy(density)
    obs, actions = observations(OBS, 8), torch.zeros(8, 2)
    policy.set_training_mode(False)
    before = policy.evaluate_actions(obs, actions)[1]
    policy.set_training_mode(True)
    assert torch.equal(policy.evaluate_actions(obs, actions)[1], before)


def test_nothing_is_called_log_std() -> None:
    """SB3 takes exp() of an attribute with that name."""
    for density in DENSITIES:
        assert not hasattr(ac_policy(density), "log_std")


@pytest.mark.parametrize("density", DENSITIES)
def test_a_head_starts_alike_in_every_box(density: str) -> None:
    """In a narrow box beside 0 actions are those of the box ±1, moved and scaled; log π follows."""
    unit = spaces.Box(-1.0, 1.0, (2,), np.float32)
    box = spaces.Box(np.float32([-0.01, 3.0]), np.float32([0.01, 7.0]))
    middle, half = torch.tensor([0.0, 5.0]), torch.tensor([0.01, 2.0])
    obs = observations(OBS, 64)
    policies = [ac_policy(density, act=act) for act in (unit, box)]
    for policy in policies:
        policy.noise.reseed(1)
    (x, _, log_unit), (actions, _, log_box) = (policy(obs) for policy in policies)
    assert torch.allclose((actions - middle) / half, x, rtol=0.0, atol=1e-4)
    assert torch.allclose(log_box, log_unit - half.log().sum(), rtol=0.0, atol=1e-2)
    best = [policy(obs, deterministic=True)[0] for policy in policies]
    assert torch.allclose((best[1] - middle) / half, best[0], rtol=0.0, atol=1e-4)
    entropy = [p.evaluate_actions(obs, a)[2] for p, a in zip(policies, (x, actions), strict=True)]
    assert torch.allclose(entropy[1], entropy[0] + half.log().sum(), rtol=0.0, atol=1e-4)
    again = policies[1].evaluate_actions(obs, actions.detach())[1]
    torch.testing.assert_close(again, log_box, rtol=0.0, atol=1e-5)  # the first ratio is 1
    low, high = (
        policies[1].predict(obs.numpy())[0].min(0),
        policies[1].predict(obs.numpy())[0].max(0),
    )
    assert (low >= box.low).all() and (high <= box.high).all()


def test_gaussian_starts_as_sb3s() -> None:
    """In units of the box: mean near 0, σ = exp(log_std_init), one learned log σ a dimension."""
    value = ac_policy("gaussian", log_std_init=-0.5).action_density(observations(OBS, 16))
    assert value.mean.abs().max() < 0.05
    assert torch.allclose(value.stddev, torch.tensor(-0.5).exp(), rtol=1e-4, atol=0.0)


def test_gsde_and_trpo_are_refused() -> None:
    """One line each says why and what works instead."""
    with pytest.raises(ValueError, match=r"^use_sde: got True, expected False: gSDE"):
        ac_policy("cvae", use_sde=True)
    policy = ac_policy("cvae")
    with pytest.raises(NotImplementedError, match=r"^use_sde: "):
        policy.reset_noise()
    distribution = policy.get_distribution(observations(OBS, 2))
    with pytest.raises(IntractableError, match=r"^distribution: .*TRPO.*use PPO"):
        kl_divergence(distribution, copy.copy(distribution))
    for call in ("proba_distribution", "actions_from_params", "log_prob_from_params"):
        with pytest.raises(NotImplementedError, match=r"use policy\.action_density"):
            getattr(distribution, call)(None, None)


def test_squashed_predictions_are_scaled_to_the_box_and_others_clipped() -> None:
    """Both stay inside the action space."""
    obs = observations(OBS, 256).numpy()
    for squash in (False, True):
        actions, _ = ac_policy("cvae", squash_output=squash, log_std_init=1.0).predict(obs)
        assert (actions >= ACT.low).all() and (actions <= ACT.high).all()
        assert actions.max() > 1.5
    assert isinstance(
        ac_policy("cvae", squash_output=True).action_density(observations(OBS, 1)), SquashedValue
    )


class MatrixEnv(TinyEnv):
    """Its actions are matrices."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.action_space = spaces.Box(-2.0, 2.0, shape, np.float32)
        self.observation_space = spaces.Box(-1.0, 1.0, shape, np.float32)

    def _observe(self) -> np.ndarray:
        self.goal = self.np_random.uniform(-1.0, 1.0, self.action_space.shape).astype(np.float32)
        return self.goal


@pytest.mark.parametrize("shape", [(2, 2), (1, 2), (2, 1, 1)])
@pytest.mark.parametrize("squash", [False, True])
def test_actions_keep_the_shape_of_their_box(shape: tuple[int, ...], squash: bool) -> None:
    """In roll-outs, updates and predictions, of one observation and of several."""
    for cls in (PPO, A2C):
        kwargs = {"density": "cvae", "squash_output": squash, "net_arch": [8]}
        agent = cls(ActorCriticPolicy, MatrixEnv(shape), n_steps=12, policy_kwargs=kwargs)
        agent.learn(24)
        for obs in (np.zeros(shape, np.float32), np.zeros((3, *shape), np.float32)):
            for deterministic in (False, True):
                assert agent.predict(obs, deterministic=deterministic)[0].shape == obs.shape


@pytest.mark.parametrize("density", DENSITIES)
def test_the_entropy_of_the_same_rows_is_the_same(density: str) -> None:
    """Two evaluations agree, also after a sample between them would move the stream; those of an
    update are fresh."""
    policy, obs = ac_policy(density), observations(OBS, 8)
    policy.set_training_mode(False)
    calls = policy.noise.calls
    entropies = [policy.evaluate_actions(obs, torch.zeros(8, 2))[2] for _ in range(2)]
    assert torch.equal(*entropies)
    assert policy.noise.calls == calls


@pytest.mark.parametrize(
    ("agent", "policy"),
    [
        (TRPO, ActorCriticPolicy),
        (RecurrentPPO, ActorCriticPolicy),
        (SAC, ActorCriticPolicy),
        (TQC, SACPolicy),
        (ARS, ActorCriticPolicy),
        (ARS, SACPolicy),
        (TD3, SACPolicy),
        (TD3, ActorCriticPolicy),
        (vaerl.agents.SAC, ActorCriticPolicy),
        (vaerl.agents.PPO, SACPolicy),
    ],
)
def test_an_agent_of_another_kind_is_refused_when_it_is_built(agent, policy) -> None:
    """One line that names the policy and the agent."""
    with pytest.raises(ValueError, match=rf"^policy: got {policy.__name__}\b.*[;,] ") as caught:
        agent(policy, TinyEnv())
    assert "\n" not in str(caught.value)


def test_a_policy_made_on_its_own_is_taken() -> None:
    """Also while an agent of another kind trains."""
    made = []

    class Callback(BaseCallback):
        def _on_step(self) -> bool:
            made.append(ac_policy("gaussian"))
            return False

    vaerl.agents.SAC("gaussian", TinyEnv(), buffer_size=10).learn(2, callback=Callback())
    assert made


DATA = Demonstrations.from_arrays([np.zeros((9, 2), np.float32)], [np.zeros((8, 2), np.float32)])


@pytest.mark.parametrize("made_with", [None, 3])
@pytest.mark.parametrize(
    ("agent", "policy", "options"),
    [
        (PPO, ActorCriticPolicy, {"n_steps": 10, "batch_size": 10}),
        (SAC, SACPolicy, {"buffer_size": 10}),
        (vaerl.agents.PPO, "cvae", {"n_steps": 10, "batch_size": 10}),
        (vaerl.agents.SAC, "cvae", {"buffer_size": 10}),
        (vaerl.agents.BC, "cvae", {"data": DATA, "decoder_noise": True, "chunk": 1}),
        (vaerl.agents.MPC, "gaussian", {"buffer_size": 10, "planner": "random"}),
    ],
)
def test_a_seed_at_load_reaches_the_noise(tmp_path, agent, policy, options, made_with) -> None:
    """`load(seed=…)` and a seed after it decide the next draws; without one the stream goes on."""
    made = agent(policy, TinyEnv(), seed=made_with, **options)
    made.predict(np.zeros(2, np.float32))
    made.save(tmp_path / "agent.zip")

    def draws(loaded: Any) -> list[float]:
        return [float(loaded.predict(np.zeros(2, np.float32))[0][0]) for _ in range(2)]

    def loaded(seed: int | None, after: int | None = None) -> list[float]:
        chosen = {} if seed is None else {"seed": seed}
        found = agent.load(tmp_path / "agent.zip", **chosen)
        if after is not None:
            found.set_random_seed(after)
        return draws(found)

    assert loaded(1) == loaded(1) != loaded(2)
    assert loaded(None, 1) == loaded(None, 1) != loaded(None, 2)
    assert loaded(None) == draws(made)
