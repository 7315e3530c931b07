"""A training that resumes: an interrupted one ends with the same parameters as any other.

The random numbers of a round depend on the seed and its number alone. The whole state
(parameters, optimisers, losses) is one file, replaced at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.checkpoint.read import FILE_LIMIT
from vaerl.checkpoint.tensors import Tensors, from_bytes, pack, to_bytes, unpack
from vaerl.disk import files, jsonio
from vaerl.disk.reading import read_file
from vaerl.lab.pool import Tick
from vaerl.lab.record import check_same, plain
from vaerl.runs.signals import StopSignals

SAVE_SECONDS = 20.0
"""The state is saved after the first round that ends this long after the last save."""


class Trainer:
    """Trains `module` in `rounds` calls of `step(generator)`, which gives the loss of its round.

    A round is an update or an epoch. The learning rates rise linearly from 5 % over the first
    `warmup` of the work, and fall to 0 as a cosine; `step` may call `set_rates` for finer steps.

    Args:
        module: the module to train.
        optimisers: their learning rates are the highest ones.
        step: computes gradients, steps the optimisers and returns the loss.
        rounds: calls of `step`.
        settings: all that determines the result; a saved state with other settings is refused.
        seed: of the random numbers.
        device: of the generator.
        warmup: share of the work, above 0.
        free: settings that may differ from those of a saved state.
    """

    def __init__(
        self,
        module: nn.Module,
        optimisers: tuple[torch.optim.Optimizer, ...],
        step: Callable[[torch.Generator], Tensor | float],
        rounds: int,
        settings: Mapping[str, Any],
        *,
        seed: int = 0,
        device: str = "cpu",
        warmup: float = 0.02,
        free: Collection[str] = (),
    ) -> None:
        self.module, self.optimisers, self.step, self.rounds = module, optimisers, step, rounds
        self.settings, self.free = plain(settings), free
        self.seed, self.device, self.warmup = seed, device, warmup
        self.losses: list[float] = []
        """The loss of every round done."""
        self.seconds: list[float] = []
        """CPU seconds of every round done, all threads together."""
        self._rates = [[group["lr"] for group in o.param_groups] for o in optimisers]

    @property
    def done(self) -> int:
        """Rounds done."""
        return len(self.losses)

    def run(self, path: Path, tick: Tick | None = None) -> None:
        """Train to the end, from the state saved at `path` if there is one.

        Args:
            path: file of the state.
            tick: gets the number of rounds done.

        Raises:
            ValueError: the saved state has other settings, or a loss is not finite.
            KeyboardInterrupt: after SIGINT or SIGTERM, with the state saved.
        """
        self.restore(path)
        stop = StopSignals()
        stop.install()
        try:
            self._run(path, tick or (lambda done: None), stop)
        finally:
            stop.restore()
        self.module.eval().requires_grad_(False)

    def _run(self, path: Path, tick: Tick, stop: StopSignals) -> None:
        saved = time.monotonic()
        self.module.train()
        while self.done < self.rounds:
            self.round()
            tick(self.done)
            last = self.done == self.rounds or stop.received is not None
            if last or time.monotonic() - saved > SAVE_SECONDS:
                self.save(path)
                saved = time.monotonic()
            if stop.received is not None:
                raise KeyboardInterrupt

    def round(self) -> None:
        """Do the next round."""
        start = time.process_time()
        self.set_rates(self.done / self.rounds)
        generator = torch.Generator(self.device).manual_seed(1_000_003 * self.seed + self.done)
        loss = float(self.step(generator))
        if not math.isfinite(loss):
            raise ValueError(f"loss: got {loss} in round {self.done + 1}, expected a finite number")
        self.losses.append(loss)
        self.seconds.append(time.process_time() - start)

    def set_rates(self, share: float) -> None:
        """Set the learning rates for the moment when `share` of the work is done."""
        rise = min(1.0, 0.05 + share / self.warmup)
        fall = 0.5 * (1.0 + math.cos(math.pi * share))
        for optimiser, rates in zip(self.optimisers, self._rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * rise * fall

    def save(self, path: Path) -> None:
        """Write the whole state as one file."""
        tensors: Tensors = {}
        states = [
            {str(key): value for key, value in optimiser.state_dict()["state"].items()}
            for optimiser in self.optimisers
        ]
        record = {
            "settings": self.settings,
            "losses": self.losses,
            "seconds": self.seconds,
            "parameters": pack(dict(self.module.state_dict()), "parameters", tensors),
            "optimisers": pack(states, "optimisers", tensors),
        }
        text = jsonio.dumps(record).encode()
        tensors["json"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        files.make_directory(path.parent)
        files.write_bytes(path, to_bytes(tensors))

    def restore(self, path: Path) -> bool:
        """Load a saved state; False if there is none.

        Raises:
            ValueError: the file is damaged or has other settings.
        """
        if not path.exists():
            return False
        where = str(path)
        try:
            tensors = from_bytes(read_file(path, FILE_LIMIT), where)
            data = jsonio.loads(tensors.pop("json").numpy().tobytes(), where)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{where}: not the state of a training ({error}); delete it"
            ) from error
        check_same(path, data["settings"], self.settings, self.free)
        self.module.load_state_dict(unpack(data["parameters"], tensors, where))
        states = unpack(data["optimisers"], tensors, where)
        for optimiser, state in zip(self.optimisers, states, strict=True):
            whole = optimiser.state_dict()
            whole["state"] = {int(key): value for key, value in state.items()}
            optimiser.load_state_dict(whole)
        self.losses, self.seconds = data["losses"], data["seconds"]
        return True
