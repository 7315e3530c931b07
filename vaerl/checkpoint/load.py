"""Loading an agent from files of unknown origin.

Nothing in a checkpoint is ever run, and no agent is built before its files have been checked
(`vaerl.checkpoint.read`). Every failure raises a `VaerlLoadError`.

A forged checkpoint can make a policy bad, but it cannot make it run code. An environment that is
made by its id does run its own code; pass `env=` if you do not trust the checkpoint's choice.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vaerl.agents.description import AgentDescription, make_agent
from vaerl.checkpoint.loop import restore_loop
from vaerl.checkpoint.normalize import normalized, restore_normalizer
from vaerl.checkpoint.read import COUNTERS, Checkpoint, find_checkpoint, one_error
from vaerl.checkpoint.replay import restore_replay
from vaerl.checkpoint.rng import preserve_rng, restore_rng
from vaerl.checkpoint.save import space_labels
from vaerl.checkpoint.state import Parts
from vaerl.checkpoint.tensors import Tensors
from vaerl.disk.errors import VaerlLoadError

COPIES_LIMIT = 4096


def load_checkpoint(
    path: str | os.PathLike[str] | Checkpoint,
    env: Any = None,
    device: str = "cpu",
    *,
    include_replay: bool = False,
    restore_rng: bool = False,
    trains: bool = True,
) -> BaseAlgorithm:
    """Load the agent of a run, of a directory of checkpoints, or of one checkpoint.

    It predicts what the saved agent predicted; `agent.learn(steps, reset_num_timesteps=False)`
    continues its training. With `restore_rng`, environments go on where they were, and the numbers
    are those of an uninterrupted training; otherwise training continues with new episodes.

    Args:
        path: a path, or what `find_checkpoint` returned.
        env: Gymnasium or vectorised environment with the same spaces. Without it the environment
            is made by its id: one copy, or as many as were saved if the replay buffer is loaded.
            Wrapped in VecNormalize if the saved one was.
        device: torch device.
        include_replay: load the replay buffer too, if the checkpoint has one.
        restore_rng: set the global generators (torch, numpy, Python), that of the action space and
            the environments to their saved states. Otherwise loading changes no generator. One
            line says what of the environments could not be saved.
        trains: whether the agent will learn on; if not, it gets no room for a replay buffer.

    Raises:
        VaerlLoadError: in one line, whatever is wrong with the files or the environment.
    """
    if isinstance(path, Checkpoint):
        checkpoint = path
    else:
        checkpoint = find_checkpoint(path, include_replay=include_replay)
    with preserve_rng(), one_error(f"checkpoint {checkpoint.path.name}"):
        description = AgentDescription.from_dict(checkpoint.description()).unspent()
        if not trains and description.agent_options.get("buffer_size"):
            options = {**description.agent_options, "buffer_size": 1}
            description = replace(description, agent_options=options)
        if env is None:
            copies = min(description.n_envs, COPIES_LIMIT) if include_replay else 1
            env = description.make_env(copies)
        env = BaseAlgorithm._wrap_env(env, verbose=0)
        normalizer = checkpoint.state()["normalizer"]
        if normalizer is not None:
            env = normalized(env, normalizer)
        with _network_limit(checkpoint.tensors):
            agent = make_agent(description, env, device=device)
    restore(agent, checkpoint, include_replay=include_replay, rng=restore_rng)
    return agent


def restore(
    agent: BaseAlgorithm, checkpoint: Checkpoint, *, include_replay: bool = False, rng: bool = False
) -> None:
    """Put the contents of a checkpoint into a fresh agent of the same description.

    Raises VaerlLoadError, in one line, if the two do not fit.
    """
    manifest = checkpoint.manifest
    with one_error(f"checkpoint {checkpoint.path.name}"):
        for what, here in space_labels(agent).items():
            if here != manifest["spaces"][what]:
                raise ValueError(f"{what}: got {here}, expected {manifest['spaces'][what]}")
        state = checkpoint.state()
        Parts(agent).restore(state)
        agent.seed = manifest["seed"]
        for name in COUNTERS:
            setattr(agent, name, manifest["counters"][name])
        if agent._total_timesteps:
            agent._update_current_progress_remaining(agent.num_timesteps, agent._total_timesteps)
        lost: str | None = "it was not saved"
        if rng and "loop" in state:
            lost = restore_loop(agent, state["loop"])
        if rng and lost is not None and agent.num_timesteps:
            print(f"environment: {lost}; training goes on with new episodes", file=sys.stderr)
        if state["normalizer"] is not None:
            restore_normalizer(agent.get_env(), state["normalizer"])  # type: ignore[arg-type]
        buffer = getattr(agent, "replay_buffer", None) if include_replay else None
        if buffer is not None and manifest["replay"] is None:
            print(f"checkpoint {checkpoint.path.name} holds no replay buffer", file=sys.stderr)
        elif buffer is not None:
            restore_replay(buffer, checkpoint.replay, manifest["replay"], continues=lost is None)
        if rng:
            restore_rng(state["rng"], agent.action_space)


@contextlib.contextmanager
def _network_limit(stored: Tensors) -> Iterator[None]:
    """Refuse networks far larger than the stored ones, before their weights are drawn."""
    most = 4 * sum(tensor.numel() for tensor in stored.values()) + 2**20
    most_tensors = 4 * len(stored) + 2**10
    left, tensors, thread = most, most_tensors, threading.get_ident()

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal left, tensors
        if tensor is not None and threading.get_ident() == thread:
            left, tensors = left - tensor.numel(), tensors - 1
            if left < 0 or tensors < 0:
                raise VaerlLoadError(
                    f"the agent would have more than {most:,} parameters in {most_tensors:,} "
                    "tensors"
                )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
