"""Control with learned models: raw-angle Acrobot, InvertedPendulum-v5, Pendulum-v1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from vaerl.agents import MBPO
from vaerl.dynamics import DynamicsModel, Transitions
from vaerl.envs.acrobot import RawAcrobotEnv
from vaerl.envs.laws import MixtureLaw
from vaerl.envs.noisy_pendulum import RandomPushEnv
from vaerl.experiments.dynamics.models import (
    Budget,
    Model,
    as_transitions,
    learn,
    make_world,
)
from vaerl.planning import Plan, Planner, make_planner

EPOCH = 200  # steps of an episode of the Acrobot
REFITS = (200, 400, 800, 1400, 2000, 3000, 4000)
EPISODES = 10  # of an evaluation


def angles_seen(states: torch.Tensor) -> torch.Tensor:
    """Raw state, and sine and cosine of both angles (Kegl et al. 2021)."""
    angles = states[..., :2]
    return torch.cat((states, angles.sin(), angles.cos()), dim=-1)


def acrobot(model: Model, budget: Budget, seed: int) -> dict[str, float]:
    """Reward a step of random shooting in a model learned from its own steps.

    Episodes of 200 steps, the first with random actions; at the steps of `REFITS` a new model is
    fitted to all, with a fifth of the updates that the last one gets; 100 sequences × 5 particles ×
    10 steps ahead, undiscounted. Scored in 10 further episodes with the last model.
    """
    env = RawAcrobotEnv()
    torch.manual_seed(seed)
    world: DynamicsModel | None = None
    planner = make_planner(
        "random", env.action_space, horizon=10, population=100, particles=1 if _sure(model) else 5
    )
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    seen, steps = [], 0
    while steps < budget.transitions:
        rows = _episode(env, world, planner, 1, min(EPOCH, budget.transitions), rng, generator)
        seen.append(rows[:3])
        steps += len(rows[0])
        last = steps >= budget.transitions
        if last or steps in REFITS:
            data = as_transitions(*(np.concatenate(part) for part in zip(*seen, strict=True)))
            world = make_world(env, model, features=angles_seen, reward=env.reward)
            updates = budget.steps if last else budget.steps // 5
            learn(world, model, data, replace(budget, steps=updates), seed)
    episodes = EPISODES if budget.steps > 10 else 1
    length = EPOCH if budget.steps > 10 else 5
    *_, rewards = _episode(env, world, planner, episodes, length, rng, generator)
    return {"plan": float(rewards.mean())}


def _episode(
    env: RawAcrobotEnv,
    world: Any,
    planner: Planner,
    episodes: int,
    steps: int,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States, actions, next states and rewards of episodes side by side, random without a model."""
    states = env.start_states(episodes, rng)
    rows = []
    plan: Plan | None = None
    for _ in range(steps):
        if world is None:
            actions = rng.integers(3, size=episodes)
        else:
            at = torch.as_tensor(states).float()
            plan = planner.plan(world, at, warm=plan, generator=generator)
            actions = plan.actions[:, 0].numpy()
        step = env.step_batch(states, actions, rng)
        rows.append((states, actions, step.next_states, step.rewards))
        states = step.next_states
    s, a, after, rewards = (np.concatenate(part) for part in zip(*rows, strict=True))
    return s, a, after, rewards


def inverted_pendulum(model: Model, budget: Budget, seed: int) -> dict[str, float]:
    """Return on InvertedPendulum-v5 of `vaerl.agents.MBPO` within so many real steps.

    A Gaussian policy that learns in the roll-outs of at least three members of the model; reward
    and end of an episode are learned too. It stops with the first whole episode of 1000. `plan`:
    mean of 5 episodes of the policy's mode then; `reached`: real steps until it stopped, NaN where
    it never did.
    """
    env = Monitor(gymnasium.make("InvertedPendulum-v5"))
    full = budget.steps > 10
    agent = MBPO(
        "gaussian",
        env,
        learning_rate=1e-3,
        learning_starts=300,
        batch_size=128,
        gradient_steps=8 if full else 1,
        dynamics=model.density,
        dynamics_kwargs=dict(model.options),
        members=max(3, model.members),
        propagation="expectation" if model.propagation == "expectation" else "ts1",
        fit_kwargs={"steps": budget.steps, "learning_rate": model.learning_rate},
        rollout_schedule=(500, 1500, 1, 8),
        rollout_batch_size=2000,
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
    )
    done = _WholeEpisode(1000)
    agent.learn(budget.transitions, callback=done)
    returns, _ = evaluate_policy(
        agent, env, n_eval_episodes=5 if full else 1, return_episode_rewards=True
    )
    env.close()
    return {"plan": float(np.mean(returns)), "reached": done.at}


class _WholeEpisode(BaseCallback):
    """Stops with the first episode of so many steps; `at` is the step then."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length, self.at = length, float("nan")

    def _on_step(self) -> bool:
        episode = self.locals["infos"][0].get("episode")
        if episode is None or episode["l"] < self.length:
            return True
        self.at = float(self.num_timesteps)
        return False


def pendulum(model: Model, budget: Budget, seed: int) -> dict[str, float]:
    """Return on Pendulum-v1, which is deterministic, of iCEM in a model of random transitions.

    Episodes of 200 steps side by side; the law of the reward is known.
    """
    law = RandomPushEnv()
    episodes = EPISODES if budget.steps > 10 else 2
    envs = gymnasium.make_vec("Pendulum-v1", episodes, vectorization_mode="sync")
    torch.manual_seed(seed)
    world = make_world(law, model, reward=law.reward)
    learn(world, model, _random_swings(budget.transitions, seed), budget, seed)
    planner = make_planner(
        "icem",
        law.action_space,
        horizon=20,
        population=48,
        iterations=3,
        particles=1 if _sure(model) else 4,
    )
    generator = torch.Generator().manual_seed(seed)
    observations, _ = envs.reset(seed=seed)
    total, plan = np.zeros(episodes), None
    for _ in range(200 if budget.steps > 10 else 3):
        at = torch.as_tensor(observations).float()
        plan = planner.plan(world, at, warm=plan, generator=generator)
        observations, rewards, *_ = envs.step(plan.actions[:, 0].numpy())
        total += rewards
    envs.close()
    return {"plan": float(total.mean())}


def _random_swings(count: int, seed: int) -> Transitions:
    """Transitions of Pendulum-v1's equations from random states and torques, without noise."""
    env, rng = RandomPushEnv(), np.random.default_rng(seed)
    states, torque = env.random_pairs(count, rng)
    states[:, 2] = rng.uniform(-8.0, 8.0, count)
    law = env.transition_distribution(states, torque)
    assert isinstance(law, MixtureLaw)
    speed = np.clip(law.means[:, 0], -8.0, 8.0)  # of the part without a push
    return as_transitions(states, torque, env.complete(states, torque, speed))


def _sure(model: Model) -> bool:
    """Whether all particles of a model go the same way."""
    return model.propagation == "expectation" and model.members == 1
