"""The true simulator as a model for planners in torch."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

import vaerl.envs  # noqa: F401  (registers vaerl/…)
from vaerl.envs.ghost_grid import GhostGridEnv
from vaerl.envs.noisy_pendulum import HiddenFrictionEnv
from vaerl.envs.wet_chicken import WetChickenEnv
from vaerl.planning import SimulatorModel


def test_particles_follow_the_law():
    env = WetChickenEnv()
    state, action = np.array([1.0, 4.0]), np.array([0.3, 0.0])
    states, actions = (torch.tensor(v).float().repeat(5000, 1) for v in (state, action))
    generator = torch.Generator().manual_seed(0)
    after, rewards, dones = SimulatorModel(env).step(states, actions, generator)
    law = env.transition_distribution(state, action)
    assert after.dtype == torch.float32 and np.isfinite(law.log_prob(after.numpy())).all()
    np.testing.assert_allclose(after.mean(dim=0), law.mean(), atol=0.1)
    np.testing.assert_allclose(rewards, after[:, 1] - 5.0, atol=1e-5)
    assert not dones.any()


def test_the_generator_decides():
    model = SimulatorModel(gymnasium.make("vaerl/RandomPush-v0"))
    states, actions = torch.tensor([[1.0, 0.0, 0.0]]).repeat(50, 1), torch.zeros(50, 1)

    def draw(seed):
        return model.step(states, actions, torch.Generator().manual_seed(seed))[0]

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_particles_whose_episode_is_over_stay_and_earn_nothing():
    states = torch.tensor([[6.0, 5, 0, 0, 0, 1], [6, 6, 0, 0, 0, 1], [2, 2, 2, 2, 0, 1]])
    after, rewards, dones = SimulatorModel(GhostGridEnv()).step(states, torch.zeros(3).long())
    assert rewards.tolist() == [10.0, 0.0, 0.0] and dones.tolist() == [True, True, True]
    assert torch.equal(after[1:], states[1:])


def test_a_roll_out_starts_where_a_step_can():
    """Its particles may end on the way."""
    model, up = SimulatorModel(GhostGridEnv()), torch.zeros(1).long()
    roll = model.begin(1)
    over = roll.step(torch.tensor([[6.0, 5, 0, 0, 0, 1]]), up).next_states
    assert torch.equal(roll.step(over, up).next_states, over)
    with pytest.raises(
        ValueError, match=r"^states: got \[6.0, 6.0, .*, expected free cells of a r"
    ):
        model.begin(1).step(over, up)


def test_a_roll_out_holds_what_is_hidden():
    """Friction differs between particles and stays: after 40 steps the filter knows each one's."""
    env = HiddenFrictionEnv()
    generator = torch.Generator().manual_seed(0)
    model = SimulatorModel(env).begin(60, generator)
    states = torch.tensor(env.start_states(60, np.random.default_rng(0)))
    chance = np.full(60, 0.5)
    for _ in range(40):
        torque = 4.0 * torch.rand(60, 1, generator=generator, dtype=torch.float64) - 2.0
        after = model.step(states, torque, generator)[0]
        chance = env.friction_chance(chance, states.numpy(), torque.numpy(), after.numpy())
        states = after
    sure = (chance < 0.05) | (chance > 0.95)
    assert sure.mean() > 0.9 and 0.2 < (chance > 0.5).mean() < 0.8


def test_an_environment_without_batches_of_steps_is_refused():
    with pytest.raises(
        ValueError, match="env: got MultiGoalEnv, expected one with a method step_b"
    ):
        SimulatorModel(gymnasium.make("vaerl/MultiGoal-v0"))
