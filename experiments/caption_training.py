"""Trainings that resume: the random numbers of an update depend on the seed and its number only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.runs import files, jsonio
from vaerl.runs.checkpoint_tensors import Tensors, from_bytes, pack, to_bytes, unpack

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
        path = folder / f"{self.name}.safetensors"
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

    def _set_rates(self) -> None:
        share = self.done / self.updates
        factor = min(1.0, 0.05 + share / 0.02) * 0.5 * (1.0 + math.cos(math.pi * share))
        for optimiser, rates in zip(self.optimisers, self._rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _save(self, path: Path) -> None:
        """Write the whole state as one file, replacing the one before at once."""
        tensors: Tensors = {}
        states = [
            {str(key): value for key, value in optimiser.state_dict()["state"].items()}
            for optimiser in self.optimisers
        ]
        data = {
            "settings": self.settings,
            "done": self.done,
            "seconds": self.seconds,
            "curve": self.curve,
            "parameters": pack(dict(self.module.state_dict()), "parameters", tensors),
            "optimisers": pack(states, "optimisers", tensors),
        }
        text = jsonio.dumps(data).encode()
        tensors["json"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        files.write_bytes(path, to_bytes(tensors))

    def _restore(self, path: Path) -> None:
        """Take up a saved state; ValueError where it was made by other settings."""
        if not path.exists():
            return
        tensors = from_bytes(path.read_bytes(), path.name)
        data = jsonio.loads(tensors.pop("json").numpy().tobytes(), path.name)
        wanted = jsonio.loads(jsonio.dumps(self.settings).encode(), "settings")
        if data["settings"] != wanted:
            other = [k for k in wanted if data["settings"].get(k) != wanted[k]]
            raise ValueError(
                f"out: {path} was made with another {', '.join(other)}; "
                "expected the same settings, or another --out"
            )
        self.module.load_state_dict(unpack(data["parameters"], tensors, path.name))
        states = unpack(data["optimisers"], tensors, path.name)
        for optimiser, state in zip(self.optimisers, states, strict=True):
            whole = optimiser.state_dict()
            whole["state"] = {int(key): value for key, value in state.items()}
            optimiser.load_state_dict(whole)
        self.done, self.seconds, self.curve = data["done"], data["seconds"], data["curve"]
