"""Demonstrations out of a run: its recorded episodes, or the replay buffer that it saved."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vaerl.checkpoint.read import Checkpoint, find_checkpoint
from vaerl.data.buffers import from_replay_buffer
from vaerl.data.demonstrations import Array, Demonstrations, env_spaces
from vaerl.data.folder import is_folder, read_folder
from vaerl.disk.errors import one_line

EPISODES = "episodes"
RINGS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run."""
    return (path / "config.json").is_file() and (path / "checkpoints").is_dir()


def read_run(path: Path) -> Demonstrations:
    """The episodes that `vaerl collect --run` recorded, or those in the newest replay buffer.

    Buffers are stored as safetensors; reading them runs no code. The environment is made for its
    spaces, if its id is registered.

    Raises:
        ValueError: the run has neither, or its files do not fit together.
    """
    if is_folder(path / EPISODES):
        return read_folder(path / EPISODES)
    checkpoint = find_checkpoint(path, include_replay=True)
    if checkpoint.manifest["replay"] is None:
        raise ValueError(
            f"data: run {str(path)!r} holds no replay buffer, expected one, or episodes recorded "
            f"with: vaerl collect --run {path} --episodes NUMBER"
        )
    description = checkpoint.description()
    try:
        env, options = str(description["env"]), dict(description.get("env_options", {}))
        buffer = _stored(checkpoint, *env_spaces(env, options))
        found = from_replay_buffer(buffer, env=env)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"data: the replay buffer of run {str(path)!r} is not whole ({one_line(error)})"
        ) from error
    found.provenance.update(
        run=str(path.absolute()), step=checkpoint.num_timesteps, env_options=options
    )
    return found


def _stored(checkpoint: Checkpoint, observation_space: Any, action_space: Any) -> Any:
    """What `from_replay_buffer` reads of a buffer, out of the chunks of a checkpoint."""
    state = checkpoint.manifest["replay"]
    arrays: dict[str, Any] = {}
    for name in sorted({name for chunk in checkpoint.replay for name in chunk}):
        kind, _, key = name.partition("/")
        if kind in RINGS:
            parts = [chunk[name].numpy() for chunk in checkpoint.replay if name in chunk]
            rows: Array = np.concatenate(parts)
            if key:
                arrays.setdefault(kind, {})[key] = rows
            else:
                arrays[kind] = rows
    fields = {name: state[name] for name in ("pos", "full", "buffer_size", "n_envs")}
    return SimpleNamespace(
        **fields, **arrays, observation_space=observation_space, action_space=action_space
    )
