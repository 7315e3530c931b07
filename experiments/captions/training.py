"""Trainings that resume: the random numbers of an update depend on the seed and its number only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.disk import files, jsonio
from vaerl.lab.training_state import load_state, save_state

SAVE_SECONDS = 30.0
CURVE = 50  # updates a point of the curve


@dataclass
class Fit:
    """A model, its optimisers, and what one update does.

    `step(generator)` computes gradients, steps the optimisers and gives the loss. The learning rate
    of every optimiser rises over the first 2 % of the updates and falls as a cosine.
    """

    name: str
    module: nn.Module
    optimisers: tuple[torch.optim.Optimizer, ...]
    updates: int
    step: Callable[[torch.Generator], Tensor]
    #: what determines the result; a saved state with other settings is refused
    settings: dict[str, Any]
    seed: int = 0
    done: int = 0
    #: CPU seconds, all threads together
    seconds: float = 0.0
    #: mean loss of every `CURVE` updates
    curve: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rates = [[g["lr"] for g in o.param_groups] for o in self.optimisers]

    def run(self, folder: Path, tick: Callable[[int], None] | None = None) -> nn.Module:
        """Train to the end, saving the state in `folder`; `tick` gets the updates done."""
        files.make_directory(folder)
        path = state_of(folder, self.name)
        self._restore(path)
        saved, total = time.monotonic(), 0.0
        started = False
        self.module.train()
        while self.done < self.updates:
            start = time.process_time()
            self._set_rates()
            generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.done)
            total += self.step(generator).item()
            if not math.isfinite(total):
                raise ValueError(f"{self.name}: the loss of update {self.done + 1} is {total}")
            self.done += 1
            started = True
            self.seconds += time.process_time() - start
            if self.done % CURVE == 0:
                self.curve.append(total / CURVE)
                total = 0.0
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save(path)
                    saved = time.monotonic()
            if tick is not None:
                tick(self.done)
        if started:
            self._save(path)
        return self.module.eval().requires_grad_(False)

    def finished(self, folder: Path) -> bool:
        """Take up the state in `folder`; whether its training has come to its end."""
        self._restore(state_of(folder, self.name))
        self.module.eval().requires_grad_(False)
        return self.done >= self.updates

    def _set_rates(self) -> None:
        share = self.done / self.updates
        factor = min(1.0, 0.05 + share / 0.02) * 0.5 * (1.0 + math.cos(math.pi * share))
        for optimiser, rates in zip(self.optimisers, self._rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _save(self, path: Path) -> None:
        """Write the whole state as one file, replacing the one before at once."""
        data = {name: getattr(self, name) for name in ("settings", "done", "seconds", "curve")}
        save_state(path, self.module, self.optimisers, data)

    def _restore(self, path: Path) -> None:
        """Take up a saved state; ValueError where it was made by other settings."""

        def check(data: Mapping[str, Any]) -> None:
            wanted = jsonio.loads(jsonio.dumps(self.settings).encode(), "settings")
            if data["settings"] != wanted:
                other = [k for k in wanted if data["settings"].get(k) != wanted[k]]
                raise ValueError(
                    f"out: {path} was made with another {', '.join(other)}; "
                    "expected the same settings, or another --out"
                )

        data = load_state(path, self.module, self.optimisers, check)
        if data is not None:
            self.done, self.seconds, self.curve = data["done"], data["seconds"], data["curve"]


def state_of(folder: Path, name: str) -> Path:
    """Where the state of a training lies."""
    return folder / f"{name}.safetensors"
