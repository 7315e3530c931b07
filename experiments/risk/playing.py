"""Whole episodes in the true environment, many side by side, and what acts in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from vaerl.agents import MBPO
from vaerl.dynamics import Transitions
from vaerl.experiments.dynamics.models import Model, as_transitions
from vaerl.experiments.risk.tasks import Task
from vaerl.planning import Plan, Planner

Act = Callable[[NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]]
"""Actions ``(B, A)`` for the states ``(B, S)`` of the running episodes; which of those that ran
before the last step still run, ``(B',)``."""


class Step(NamedTuple):
    """One step of all episodes that run, R of them."""

    running: NDArray[np.int64]
    """Their numbers ``(R,)``."""
    states: NDArray[np.float64]
    actions: NDArray[np.float64]
    next_states: NDArray[np.float64]
    rewards: NDArray[np.float64]


def walk(env: Any, act: Act, episodes: int, steps: int, seed: int) -> Iterator[Step]:
    """Episodes of the true dynamics, side by side; those that end drop out."""
    rng = np.random.default_rng(seed)
    states, running = env.start_states(episodes, rng), np.arange(episodes)
    stays = np.ones(episodes, dtype=np.bool_)
    for _ in range(steps):
        actions = act(states, stays)
        after, rewards, ends = env.step_batch(states, actions, rng)
        yield Step(running, states, actions, after, rewards)
        stays = ~ends
        running, states = running[stays], after[stays]
        if not len(running):
            break


def play(env: Any, act: Act, episodes: int, steps: int, seed: int) -> NDArray[np.float64]:
    """Their returns ``(episodes,)``."""
    returns = np.zeros(episodes)
    for step in walk(env, act, episodes, steps, seed):
        returns[step.running] += step.rewards
    return returns


def with_episodes(data: Transitions, walked: Iterator[Step]) -> Transitions:
    """Data of states, actions and next states with those of more episodes behind them."""
    own = [(step.states, step.actions, step.next_states) for step in walked]
    old = (data.states.numpy(), data.actions.numpy(), data.next_states.numpy())
    parts = (np.concatenate(column) for column in zip(old, *own, strict=True))
    return as_transitions(*parts)


def planned(env: Any, model: Any, planner: Planner, generator: torch.Generator) -> Act:
    """The first actions of plans, each begun from the last one of its episode."""
    known = {"reward": env.reward, "termination": env.terminated}
    last: Plan | None = None

    def act(states: NDArray[np.float64], stays: NDArray[np.bool_]) -> NDArray[np.float64]:
        nonlocal last
        warm = last
        if warm is not None and not stays.all():
            rows = torch.as_tensor(np.flatnonzero(stays))
            kept = None if warm.kept is None else warm.kept[rows]
            law = tuple(part[rows] for part in warm.law)
            warm = replace(warm, actions=warm.actions[rows], law=law, kept=kept)
        at = torch.as_tensor(states).float()
        last = planner.plan(model, at, warm=warm, generator=generator, **known)
        return last.actions[:, 0].double().numpy()

    return act


def policy_of(task: Task, model: Model, seed: int) -> Act:
    """The best actions of a Gaussian policy that MBPO has learned with such a model."""
    venv = VecNormalize(DummyVecEnv([lambda: gymnasium.make(task.env_id)]))
    fit_kwargs = {**task.agent["fit_kwargs"], "learning_rate": model.learning_rate}
    agent = MBPO(
        "gaussian",
        venv,
        dynamics=model.density,
        dynamics_kwargs=dict(model.options),
        members=model.members,
        reward="known",
        termination="known",
        seed=seed,
        **{**task.agent, "fit_kwargs": fit_kwargs},
    )
    agent.learn(task.real_steps)
    venv.close()

    def act(states: NDArray[np.float64], stays: NDArray[np.bool_]) -> NDArray[np.float64]:
        seen = venv.normalize_obs(states.astype(np.float32))
        return agent.predict(seen, deterministic=True)[0].astype(np.float64)

    return act
