"""From a `TrainConfig` to the objects it names: checked options, the agent, the trackers."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from vaerl.agents import agent_class, agent_names
from vaerl.densities import density_names
from vaerl.names import check_name
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.runs.errors import one_line
from vaerl.runs.tensorboard_tracker import TensorBoardTracker
from vaerl.runs.trackers import JsonlTracker
from vaerl.runs.wandb_tracker import WandbTracker

# Arguments of an agent's constructor that have a field of their own, or none.
RESERVED = {"self", "policy", "density", "env", "seed", "device", "verbose", "tensorboard_log"}

# Lowest and highest value of constructor arguments that would fail late, or silently do nothing.
LIMITS: dict[str, tuple[float, float]] = {
    "batch_size": (1, math.inf),
    "buffer_size": (1, math.inf),
    "gae_lambda": (0, 1),
    "gamma": (0, 1),
    "learning_rate": (0, math.inf),
    "learning_starts": (0, math.inf),
    "n_epochs": (1, math.inf),
    "n_steps": (1, math.inf),
    "tau": (0, 1),
}


def check_config(config: TrainConfig) -> None:
    """Raise a ValueError of one line for a name or an option that nothing here knows."""
    check_name("agent", config.agent, agent_names())
    check_name("density", config.density, density_names())
    legal = agent_options(config.agent)
    for option in config.agent_options:
        check_name(f"option of agent {config.agent}", option, legal)
    for option, (low, high) in LIMITS.items():
        value = config.agent_options.get(option, low)
        if not isinstance(value, int | float) or not low <= value <= high:
            expected = f"from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
            raise ValueError(f"agent option {option} {value!r} must be a number, {expected}")
    kwargs = config.agent_options.get("policy_kwargs", {})
    if not isinstance(kwargs, dict):
        raise ValueError(f"agent option policy_kwargs {kwargs!r} must be an object of arguments")
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {config.device!r} is not there; this machine has cpu")


def agent_options(name: str) -> set[str]:
    """Return the constructor arguments of an agent that `agent_options` may name.

    >>> {"learning_rate", "gamma"} <= agent_options("sac"), "policy" in agent_options("sac")
    (True, False)
    """
    found: set[str] = set()
    for cls in agent_class(name).__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        found |= {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        found |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # what stands further up is set by this class
    return {option for option in found - RESERVED if not option.startswith("_")}


def make_agent(config: TrainConfig, env: VecEnv, seed: int) -> BaseAlgorithm:
    """Build the agent that `config` describes on `env`.

    Raises ValueError, one line, for arguments that the agent or its density refuses.
    """
    options = dict(config.agent_options)
    options["policy_kwargs"] = {
        **options.get("policy_kwargs", {}),
        "density_kwargs": dict(config.density_options),
    }
    if isinstance(options.get("train_freq"), list):
        options["train_freq"] = tuple(options["train_freq"])
    try:
        return agent_class(config.agent)(
            config.density,
            env,
            seed=seed,
            device=config.device,
            **options,
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{config.agent} with {options}: {one_line(error)}") from error


def make_trackers(config: TrainConfig, run: RunDirectory) -> list[Any]:
    """Return metrics.jsonl's tracker and those that `config.track` names."""
    trackers: list[Any] = [JsonlTracker(run.metrics_path)]
    if "tensorboard" in config.track:
        trackers.append(TensorBoardTracker(run.path / "tensorboard"))
    if "wandb" in config.track:
        trackers.append(
            WandbTracker(
                run.path,
                project=config.wandb_project,
                name=run.name,
                group=f"{config.agent}-{config.density}-{config.env}",
                mode=config.wandb_mode,
            )
        )
    return trackers
