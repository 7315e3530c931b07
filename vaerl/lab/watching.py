"""A cell's agent in training: what is noted on the way, and saved, so that a cut one goes on."""

from __future__ import annotations

from time import process_time
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from vaerl.disk import files
from vaerl.lab.agents import restore_agent, save_agent
from vaerl.lab.cells import Cell, Desk


class Watch(BaseCallback):
    """Trains an agent, notes its episodes and CPU seconds, and saves all of it now and then.

    Args:
        cell: that the agent belongs to.
        desk: of the cell.
        every: steps between two saves, at least; they are made before a roll-out.
        notes: what a subclass adds to them, at the start.

    Attributes:
        notes: plain data; "episodes" [[last step, return]] of the training episodes, and
            "train_seconds" without what `lap` gave to another name.
    """

    def __init__(self, cell: Cell, desk: Desk, every: int, **notes: Any) -> None:
        super().__init__()
        self.cell, self.desk, self.every = cell, desk, every
        self.since = 0.0
        self.notes: dict[str, Any] = {"episodes": [], "train_seconds": 0.0, **notes}

    def train(self, agent: BaseAlgorithm, steps: int) -> dict[str, Any]:
        """Train up to `steps` steps, from the last save if there is one; the notes.

        Raises:
            ValueError: the save belongs to a cell with other settings.
        """
        self.notes = restore_agent(agent, self.desk.state, self.cell) or self.notes
        begun = agent.num_timesteps
        agent.learn(steps - begun, callback=self, reset_num_timesteps=begun == 0)
        return self.notes

    def clear(self) -> None:
        """Remove the save, when all that needs the agent has been measured."""
        if self.desk.state.exists():
            files.remove_tree(self.desk.state)

    def lap(self, what: str) -> None:
        """Add the CPU time since the last lap to the notes."""
        now = process_time()
        self.notes[what] += now - self.since
        self.since = now

    def _on_training_start(self) -> None:
        self.saved = self.model.num_timesteps
        self.since = process_time()

    def _on_rollout_start(self) -> None:
        step = self.model.num_timesteps
        if step - self.saved >= self.every:
            self.lap("train_seconds")
            save_agent(self.model, self.desk.state, self.cell, self.notes)
            self.saved, self.since = step, process_time()

    def _on_step(self) -> bool:
        self.desk.tick(self.num_timesteps)
        for info in self.locals["infos"]:
            if "episode" in info:
                self.notes["episodes"].append([self.num_timesteps, float(info["episode"]["r"])])
        return True

    def _on_training_end(self) -> None:
        self.lap("train_seconds")
