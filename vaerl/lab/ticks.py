"""The progress of an SB3 agent that a cell trains."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback

from vaerl.lab.pool import Tick


class Ticks(BaseCallback):
    """Reports the agent's timesteps to the laboratory."""

    def __init__(self, tick: Tick) -> None:
        super().__init__()
        self.tick = tick

    def _on_step(self) -> bool:
        self.tick(self.num_timesteps)
        return True
