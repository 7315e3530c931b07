"""From a `TrainConfig` to the objects it names: checked options, the agent, the trackers."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from vaerl.agents.description import AgentDescription
from vaerl.agents.description import make_agent as make_described
from vaerl.densities import DENSITIES
from vaerl.disk.errors import one_line, only_looks
from vaerl.runs.agent_options import check_agent_options
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.track import TRACKERS, JsonlTracker, Tracker

LOG_STEPS = 2000  # maximum number of environment steps between two rows of the algorithm's log
LOG_ROWS = 25  # minimum number of rows in a short run


def check_config(config: TrainConfig) -> None:
    """Raise a ValueError of one line for an unknown name, an illegal option, a missing device."""
    check_options(config)
    try:
        torch.zeros(1, device=None if config.device == "auto" else config.device)
    except (RuntimeError, AssertionError) as error:  # torch, built without the device
        reason = one_line(str(error).partition("\n")[0], 120)
        raise ValueError(f"device: got {config.device!r}, expected cpu: {reason}") from error


def check_options(config: TrainConfig) -> None:
    """Raise a ValueError of one line for an unknown name or an illegal option."""
    DENSITIES.check(config.density)
    if config.dynamics:
        DENSITIES.check(config.dynamics, "dynamics")
    check_agent_options(config.agent, config.agent_options)


def log_every(config: TrainConfig) -> int:
    """Environment steps between two rows of the algorithm's log.

    >>> log_every(TrainConfig("Hopper-v5", steps=5000)), log_every(TrainConfig("Hopper-v5"))
    (200, 2000)
    """
    return max(1, min(LOG_STEPS, config.steps // LOG_ROWS))


def _look_at_latents(agent: Any, every: int) -> None:
    """Let an off-policy agent measure its bound gap at least once in `every` environment steps.

    The length of an episode is unknown: with `train_freq` in episodes, assume one update per step.
    """
    steps = agent.n_envs
    if agent.train_freq.unit is TrainFrequencyUnit.STEP:
        steps *= agent.train_freq.frequency
    updates = agent.gradient_steps if agent.gradient_steps >= 0 else steps
    agent.diagnostics_interval = min(agent.diagnostics_interval, max(1, every * updates // steps))


def make_agent(config: TrainConfig, env: VecEnv, seed: int) -> BaseAlgorithm:
    """Build the agent that `config` describes on `env`.

    Raises ValueError, one line, for arguments that the agent or its density refuses.
    """
    description = AgentDescription.from_dict(config.to_dict())
    agent = make_described(
        description, env, seed=seed, device=config.device, data=config.data or None
    )
    if (
        hasattr(agent, "diagnostics_interval")
        and "diagnostics_interval" not in config.agent_options
    ):
        _look_at_latents(agent, log_every(config))
    return agent


def make_trackers(config: TrainConfig, run: RunDirectory) -> list[Tracker]:
    """Return metrics.jsonl's tracker and those that `config.track` names."""
    trackers: list[Tracker] = [JsonlTracker(run.metrics_path)]
    for name in config.track:
        with only_looks(f"tracker {name}"):
            trackers.append(TRACKERS.load(name).for_run(run.path, config.to_dict()))
    return trackers
