"""An environment whose training waits in its 150th step as long as a file says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

STEP = 150


class Gate(gymnasium.Env[Any, Any]):
    """Pays for actions near a number; waits in step 150 while the file hold-NUMBER exists."""

    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, number: int = 0) -> None:
        self.number, self.count = number, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        while self.count == STEP and Path(f"hold-{self.number}").exists():
            time.sleep(0.1)
        return self._look(), -abs(float(action[0]) - self.number / 10), False, False, {}

    def _look(self) -> Any:
        return self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32)


gymnasium.register("Gate-v0", Gate, max_episode_steps=9)
