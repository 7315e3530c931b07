"""MBPO: SAC on imagined transitions, mixed with real ones, over any two densities."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from stable_baselines3.common.monitor import Monitor

from tests.agents.model_tasks import KnownWalk, Walk
from tests.policies.common import TinyEnv
from vaerl.agents import MBPO
from vaerl.checkpoint.load import load_checkpoint
from vaerl.checkpoint.save import save_checkpoint

FAST: dict[str, Any] = {
    "learning_starts": 20,
    "batch_size": 20,
    "buffer_size": 256,
    "seed": 0,
    "members": 2,
    "model_train_freq": 20,
    "fit_kwargs": {"steps": 5},
    "rollout_batch_size": 50,
    "policy_kwargs": {"net_arch": [16]},
}


def states() -> np.ndarray:
    """A few places on the line."""
    return np.linspace(-2.0, 2.0, 5, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    ("policy", "dynamics"), [("gaussian", "cvae"), ("cvae", "mixture"), ("mixture", "gaussian")]
)
def test_any_policy_goes_with_any_model(policy: str, dynamics: str) -> None:
    """Every parameter of actor, critics and elite members moves."""
    agent = MBPO(policy, Walk(), dynamics=dynamics, **FAST)
    parts = {"actor": agent.actor, "critic": agent.critic, "world": agent.world}
    before = {
        (part, name): parameter.clone()
        for part, module in parts.items()
        for name, parameter in module.named_parameters()
    }
    agent.learn(50)
    assert agent.world.density_name == dynamics and int(agent.world.fits) == 2
    still = [k for k, v in before.items() if torch.equal(parts[k[0]].get_parameter(k[1]), v)]
    assert not still


def test_a_model_is_fitted_as_soon_as_there_is_enough() -> None:
    """One transition is too little; the next update tries again, not `model_train_freq` later."""
    early = {**FAST, "learning_starts": 0, "model_train_freq": 1000}
    agent = MBPO("gaussian", Walk(), dynamics="gaussian", **early).learn(6)
    assert int(agent.world.fits) == 1 and len(agent.imagined) > 0


def test_batches_are_real_and_imagined_in_the_stated_share() -> None:
    """A quarter of the rows is the real batch's own, the rest was imagined."""
    agent = MBPO("gaussian", Walk(), dynamics="gaussian", real_share=0.25, **FAST).learn(60)
    batch = agent.replay_buffer.sample(20)
    mixed, weights = agent._mixed(batch)
    assert weights is None
    for own, both in zip(batch[:5], mixed[:5], strict=True):
        assert both.shape == own.shape and both.dtype == own.dtype
        assert torch.equal(both[:5], own[:5])
    imagined = set(map(tuple, torch.cat(agent.imagined._all[:5], dim=1).tolist()))
    rows = torch.cat([column[5:] for column in mixed[:5]], dim=1).tolist()
    assert {tuple(row) for row in rows} <= imagined and len(set(map(tuple, rows))) > 5
    agent.real_share = 1.0
    assert agent._mixed(batch)[0] is batch


def test_with_real_batches_only_it_is_sac() -> None:
    """real_share=1 fits no model and leaves SAC's numbers as they are."""
    from vaerl.agents import SAC

    own = {k: FAST[k] for k in ("learning_starts", "batch_size", "buffer_size", "seed")}
    sac = SAC("gaussian", Walk(), policy_kwargs=FAST["policy_kwargs"], **own).learn(40)
    mbpo = MBPO("gaussian", Walk(), dynamics="gaussian", real_share=1.0, **FAST).learn(40)
    assert int(mbpo.world.fits) == 0
    for name, value in sac.policy.state_dict().items():
        assert torch.equal(value, mbpo.policy.state_dict()[name]), name


def test_roll_outs_follow_the_schedule_and_stop_at_ends() -> None:
    """Lengths rise linearly between the two steps; particles that ended are not rolled on."""
    options = {**FAST, "rollout_schedule": (20, 60, 1, 5), "termination": "known"}
    agent = MBPO("gaussian", KnownWalk(), dynamics="gaussian", **options)
    lengths = []
    for agent.num_timesteps in (0, 20, 40, 60, 500):
        lengths.append(agent.rollout_length)
    assert lengths == [1, 1, 3, 5, 5]
    agent.world.termination = lambda s, a, after: torch.arange(len(s)) % 2 == 0
    steps = agent._imagine(torch.zeros(3, 1))
    assert len(steps) == 5
    assert [len(step.rewards) for step in steps] == [50, 25, 25, 25, 25]
    assert steps[0].dones.sum() == 25 and steps[1].dones.sum() == 0
    assert not torch.equal(steps[1].observations, steps[0].next_observations)
    assert torch.equal(steps[2].observations, steps[1].next_observations)


@pytest.mark.parametrize("native", [False, True])
def test_the_actor_waits_for_its_turn(native: bool) -> None:
    """With delay 2 it stands still at each other update, the native one or torch's; the critics
    move at each."""
    options = {**FAST, "policy_delay": 2, "native": native}
    agent = MBPO("gaussian", Walk(), dynamics="gaussian", **options).learn(60)
    assert len(agent.imagined) and agent._n_updates % 2 == 0
    moved: dict[str, list[bool]] = {"actor": [], "critic": []}
    for _ in range(4):
        before = {k: v.detach().clone() for k, v in agent.policy.named_parameters()}
        agent.train(1, 20)
        for part, found in moved.items():
            own = [k for k in before if k.startswith(f"{part}.")]
            still = [torch.equal(before[k], agent.policy.get_parameter(k)) for k in own]
            found.append(not all(still))
    assert moved == {"actor": [False, True] * 2, "critic": [True] * 4}


def test_a_second_learn_fits_the_model_too() -> None:
    """`learn` counts its steps anew, and the model is fitted as often as the first time."""
    agent = MBPO("gaussian", Walk(), dynamics="gaussian", **FAST)
    fits = [int(agent.learn(100).world.fits) for _ in range(2)]
    assert fits[1] >= 2 * fits[0] > 0, fits


def test_only_the_last_fits_are_kept() -> None:
    """With two kept, the third fit's roll-outs push out the first's."""
    agent = MBPO("gaussian", Walk(), dynamics="gaussian", rollouts_kept=2, **FAST)
    for value in (1.0, 2.0, 3.0):
        steps = agent._imagine(torch.full((3, 1), value))
        agent.imagined.add(steps)
    assert set(agent.imagined._all[0].flatten().tolist()) == {2.0, 3.0}
    assert len(agent.imagined) == 100


def test_the_model_makes_it_learn_from_little() -> None:
    """After 120 real steps and few updates the policy heads for the middle."""
    options = {
        **FAST,
        "fit_kwargs": {"steps": 200, "learning_rate": 1e-2},
        "rollout_batch_size": 500,
        "learning_rate": 1e-2,
        "gradient_steps": 4,
        "batch_size": 64,
        "gamma": 0.5,
        "model_train_freq": 40,
    }
    agent = MBPO("gaussian", Monitor(Walk()), dynamics="gaussian", **options).learn(140)
    actions, _ = agent.predict(np.array([[-3.0], [3.0]], np.float32), deterministic=True)
    assert actions[0, 0] > 1.0 and actions[1, 0] < -1.0


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    """Policy and model come back, through SB3's save and checkpoints; both train on."""
    agent = MBPO("cvae", Walk(), dynamics="gaussian", diagnostics_interval=10, **FAST).learn(50)
    expected, _ = agent.predict(states(), deterministic=True)
    agent.save(tmp_path / "agent")
    save_checkpoint(agent, tmp_path / "checkpoints", include_replay=True)
    at = torch.zeros(6, 1)
    step = agent.world.step(at, at, torch.Generator().manual_seed(0))
    for other in (
        MBPO.load(tmp_path / "agent", env=Walk()),
        load_checkpoint(tmp_path / "checkpoints", Walk(), include_replay=True),
    ):
        assert np.array_equal(other.predict(states(), deterministic=True)[0], expected)
        assert other.diagnostics_interval == 10 and other.real_share == agent.real_share
        again = other.world.step(at, at, torch.Generator().manual_seed(0))
        assert all(torch.equal(a, b) for a, b in zip(step, again, strict=True))
        fits = int(other.world.fits)
        other.learn(40, reset_num_timesteps=False)
        assert int(other.world.fits) > fits and len(other.imagined)


def test_the_ends_of_a_mujoco_task_are_known_without_a_method() -> None:
    """The model learns none, and roll-outs end where the task does; units changed, it refuses."""
    options = {"dynamics": "gaussian", "termination": "known", **FAST}
    agent = MBPO("gaussian", "InvertedPendulum-v5", **options)
    assert "termination" not in agent.world.networks
    upright, fallen = torch.zeros(4), torch.tensor([0.0, 0.3, 0.0, 0.0])
    step = agent.world.step(torch.stack((upright, fallen)), torch.zeros(2, 1))
    assert step.dones.tolist() == [False, True]
    agent.learn(60)
    assert len(agent.imagined)
    changed = wrappers.NormalizeObservation(gymnasium.make("InvertedPendulum-v5"))
    with pytest.raises(ValueError, match="termination: got 'known', but NormalizeObservation"):
        MBPO("gaussian", changed, **options)


def test_weights_tell_how_far_the_model_agrees() -> None:
    """1 on real rows, 1 / (1 + σ) on imagined ones."""
    options = {**FAST, "real_share": 0.25, "dynamics": "gaussian"}
    agent = MBPO("gaussian", Walk(), weight_by_uncertainty=True, **options).learn(60)
    _, weights = agent._mixed(agent.replay_buffer.sample(20))
    assert weights is not None and torch.equal(weights[:5], torch.ones(5, 1))
    (step,) = agent._imagine(torch.linspace(-9.0, 9.0, 50).unsqueeze(1))
    means = agent.world.member_values(step.observations, step.actions).mean
    wanted = 1.0 / (1.0 + (means[0] - means[1]).abs().mean(-1, keepdim=True) / 2.0)
    torch.testing.assert_close(step.weights, wanted, rtol=1e-5, atol=1e-6)
    assert 0.0 < wanted.min() < wanted.max() < 1.0


def test_a_bonus_pays_for_disagreement() -> None:
    """r + βσ on imagined rewards, and the environment's own on real ones; weights go with it."""
    options = {**FAST, "real_share": 0.25, "dynamics": "gaussian", "reward": "known"}
    for weighted in (False, True):
        agent = MBPO(
            "gaussian",
            KnownWalk(),
            exploration_bonus=3.0,
            weight_by_uncertainty=weighted,
            **options,
        ).learn(60)
        (step,) = agent._imagine(torch.linspace(-9.0, 9.0, 50).unsqueeze(1))
        means = agent.world.member_values(step.observations, step.actions).mean
        apart = (means[0] - means[1]).abs().mean(-1, keepdim=True) / 2.0
        known = -step.next_observations.abs() + 0.1 * 2.0 * step.actions
        torch.testing.assert_close(step.rewards, known + 3.0 * apart, rtol=1e-5, atol=1e-5)
        assert apart.min() > 0.0 and (step.weights is None) != weighted
        real = agent.replay_buffer.sample(20)
        mixed, _ = agent._mixed(real)
        assert torch.equal(mixed.rewards[:5], real.rewards[:5])


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (Walk(), {"dynamics": "cvea"}, "dynamics: got 'cvea', did you mean 'cvae'?"),
        (Walk(discrete=True), {}, "action_space: got Discrete(3), expected a Box of floats"),
        (TinyEnv(dict_obs=True), {}, "observation_space: got Dict("),
        (Walk(), {"n_steps": 3}, "n_steps: got 3, expected 1: imagined steps are single ones"),
        (Walk(), {"real_share": 2.0}, "real_share: got 2.0, expected a number in [0, 1]"),
        (Walk(), {"rollout_schedule": (5, 5, 1, 2)}, "rollout_schedule: got (5, 5, 1, 2), expec"),
        (Walk(), {"rollout_schedule": (0, 1, 1, 10**9)}, "rollout_schedule: got (0, 1, 1, 100"),
        (
            Walk(),
            {"weight_by_uncertainty": True, "dynamics": "flow"},
            "weight_by_uncertainty: got density 'flow', whose deviation would be all its noise",
        ),
        (
            Walk(),
            {"weight_by_uncertainty": True, "dynamics": "gaussian", "members": 1},
            "weight_by_uncertainty: got one elite of density 'gaussian', which deviates from",
        ),
        (
            Walk(),
            {"exploration_bonus": 1, "reward": "regressed", "dynamics_kwargs": {"whole": True}},
            "exploration_bonus: got a density with whole=True, expected one with a mean",
        ),
        (Walk(), {"exploration_bonus": -1.0}, "exploration_bonus: got -1.0, expected a finite"),
        (
            Walk(),
            {"exploration_bonus": 0.1, "dynamics": "flow"},
            "exploration_bonus: got density 'flow', whose deviation would be all its noise",
        ),
        (Walk(), {"reward": "regresed"}, "reward: got 'regresed', expected one of "),
        (Walk(), {"reward": "known"}, "reward: got 'known', but Walk has no method reward("),
        (Walk(), {"fit_kwargs": {"min_progress": "x"}}, "min_progress: got 'x', expected a finite"),
        (
            Walk(),
            {"policy_kwargs": {"model_kwargs": {"latent": "episode"}}},
            "policy_kwargs: got 'model_kwargs', expected options of the policy; MBPO's model has",
        ),
        (Walk(), {"fit_kwargs": "x"}, "fit_kwargs: got 'x', expected a dict of options"),
        (Walk(), {"dynamics_kwargs": [3]}, "dynamics_kwargs: got [3], expected a dict of options"),
        (Walk(), {"dynamics_kwargs": {"hiden": 3}}, "hiden: unknown option of density 'cvae'"),
    ],
)
def test_refusals(env: Any, options: dict, message: str) -> None:
    """One line that names argument, value and what is legal."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        MBPO("gaussian", env, buffer_size=10, **options)
    assert "\n" not in str(caught.value)
