"""The state of an SB3 agent that a cell trains, so that a training that was cut goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from vaerl.checkpoint.load import restore
from vaerl.checkpoint.read import find_checkpoint, list_checkpoints
from vaerl.checkpoint.save import capture_agent, save_checkpoint
from vaerl.lab.cells import Cell
from vaerl.lab.record import check_same


def save_agent(agent: BaseAlgorithm, folder: Path, cell: Cell, notes: Mapping[str, Any]) -> None:
    """Replace what `folder` holds by the agent, its replay buffer and environments, and the notes.

    Args:
        agent: between two roll-outs.
        folder: such as `Desk.state`.
        cell: that trains it.
        notes: plain data, what the cell has found so far.
    """
    tensors, manifest = capture_agent(agent, agent.num_timesteps, include_replay=True)
    captured = tensors, {**manifest, "cell": cell.as_data(), "notes": dict(notes)}
    save_checkpoint(agent, folder, described=True, captured=captured, keep_last=1)


def restore_agent(agent: BaseAlgorithm, folder: Path, cell: Cell) -> dict[str, Any] | None:
    """Put what `folder` holds into a fresh agent; the notes, or None if there is nothing.

    ``agent.learn(rest, reset_num_timesteps=False)`` then ends as if it had never been cut.

    Raises:
        ValueError: the folder belongs to a cell with other settings.
    """
    if not folder.exists() or not list_checkpoints(folder):
        return None
    found = find_checkpoint(folder, include_replay=True)
    check_same(folder, found.manifest["cell"], cell.as_data())
    restore(agent, found, include_replay=True, rng=True)
    return dict(found.manifest["notes"])
