"""Control with learned models: raw-angle Acrobot, InvertedPendulum-v5, Pendulum-v1."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.monitor import Monitor

from vaerl.agents import MPC
from vaerl.dynamics import DynamicsModel, Transitions
from vaerl.envs.acrobot import RawAcrobotEnv
from vaerl.envs.laws import MixtureLaw
from vaerl.envs.noisy_pendulum import RandomPushEnv
from vaerl.experiments.dynamics_models import (
    Budget,
    Model,
    as_transitions,
    learn,
    make_world,
)
from vaerl.planning import Plan, Planner, make_planner

EPOCH = 200  # real steps between two fits
EPISODES = 10  # of an evaluation


def angles_seen(states: torch.Tensor) -> torch.Tensor:
    """Raw state, and sine and cosine of both angles (Kegl et al. 2021)."""
    angles = states[..., :2]
    return torch.cat((states, angles.sin(), angles.cos()), dim=-1)


def acrobot(model: Model, budget: Budget, seed: int) -> dict[str, float]:
    """Reward a step of random shooting in a model learned from its own steps.

    Episodes of 200 steps, the first with random actions; after each the model is fitted anew to
    all; 100 sequences × 5 particles × 10 steps ahead, undiscounted. Scored in 10 further episodes
    with the last model.
    """
    env = RawAcrobotEnv()
    torch.manual_seed(seed)
    world = make_world(env, model, features=angles_seen, reward=env.reward)
    planner = make_planner(
        "random", env.action_space, horizon=10, population=100, particles=1 if _sure(model) else 5
    )
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    steps, seen, data = 0, [], None
    while steps < budget.transitions:
        acting: DynamicsModel | None = None if data is None else world
        rows = _episode(env, acting, planner, 1, min(EPOCH, budget.transitions), rng, generator)
        seen.append(rows[:3])
        steps += len(rows[0])
        data = as_transitions(*(np.concatenate(part) for part in zip(*seen, strict=True)))
        learn(world, model, data, budget, seed)
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
    """Return on InvertedPendulum-v5 of `vaerl.agents.MPC` within so many real steps.

    `plan`: 3 episodes after the last fit; `reached`: real steps before the first episode of 1000
    in training, NaN where there was none.
    """
    env = Monitor(gymnasium.make("InvertedPendulum-v5"))
    agent = MPC(
        model.density,
        env,
        learning_rate=model.learning_rate,
        gradient_steps=budget.steps,
        members=model.members,
        propagation=model.propagation,
        planner_kwargs={"horizon": 15, "population": 48, "iterations": 2, "particles": 4},
        policy_kwargs={"density_kwargs": dict(model.options)},
        seed=seed,
    )
    agent.learn(budget.transitions)
    starts = np.cumsum([0, *env.get_episode_lengths()])
    whole = [starts[i + 1] for i, r in enumerate(env.get_episode_rewards()) if r >= 1000.0]
    returns = []
    for episode in range(3 if budget.steps > 10 else 1):
        observation, _ = env.reset(seed=1000 + episode)
        done, total, state = False, 0.0, None
        while not done:
            action, state = agent.policy.predict(observation, state, None, deterministic=True)
            observation, reward, ended, cut, _ = env.step(action)
            total += float(reward)
            done = ended or cut
        returns.append(total)
    env.close()
    return {"plan": float(np.mean(returns)), "reached": float(whole[0]) if whole else float("nan")}


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
