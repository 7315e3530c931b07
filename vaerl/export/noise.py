"""The noise of a decision as numbers: recorded from a generator, and read back from columns.

A policy draws all its randomness through `vaerl.densities.noise`. Recorded, its draws are rows of
numbers; read back, they make the decision a function of observation and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaerl.densities.noise import RowGenerators
from vaerl.policies.noise import NoiseSource

LAWS: dict[Any, str] = {torch.rand: "random", torch.randn: "standard_normal"}
"""Names of numpy's generator for torch's samplers; any other sampler is that of `exponential`."""


class Draw(NamedTuple):
    """One draw of a decision: its law, and its shape but for the rows of the batch."""

    law: str
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return torch.Size((*self.before, *self.after)).numel()


class Recorder(RowGenerators):
    """A generator that keeps what it draws."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.laws: list[str] = []
        self.draws: list[Tensor] = []

    def draw(self, sampler: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
        drawn = sampler(shape, generator=self.generator, dtype=like.dtype, device=like.device)
        self.laws.append(LAWS.get(sampler, "standard_exponential"))
        self.draws.append(drawn)
        return drawn


class Tape(RowGenerators):
    """Noise ``(B, N)`` handed out in the order of its layout."""

    def __init__(self, noise: Tensor, layout: Sequence[Draw]) -> None:
        self.parts = list(
            zip(layout, noise.split([draw.width for draw in layout], -1), strict=True)
        )

    def draw(self, sampler: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
        draw, columns = self.parts.pop(0)
        place = len(draw.before)
        assert len(shape) == place + 1 + len(draw.after), (shape, draw)
        parts = columns.reshape(columns.shape[0], *draw.before, *draw.after)
        return parts.movedim(0, place).to(like.dtype)


def layout_of(decide: Callable[[int, Recorder], Any]) -> list[Draw]:
    """The draws of a decision about any number of rows.

    >>> from vaerl.densities.noise import standard_normal
    >>> layout_of(lambda rows, noise: standard_normal((4, rows, 3), torch.zeros(1), noise))
    [Draw(law='standard_normal', before=(4,), after=(3,))]
    """
    few, more = (Recorder(torch.Generator()) for _ in range(2))
    for rows, recorder in ((2, few), (3, more)):
        decide(rows, recorder)
    layout = []
    for law, a, b in zip(few.laws, few.draws, more.draws, strict=True):
        (place,) = (i for i in range(a.ndim) if a.shape[i] != b.shape[i])
        layout.append(Draw(law, tuple(a.shape[:place]), tuple(a.shape[place + 1 :])))
    return layout


def as_columns(draws: Sequence[Tensor], layout: Sequence[Draw], rows: int) -> Tensor:
    """Recorded draws as noise ``(rows, N)``; a policy may have drawn more before, for nothing."""
    used = draws[len(draws) - len(layout) :]
    columns = [
        drawn.movedim(len(draw.before), 0).reshape(rows, -1)
        for drawn, draw in zip(used, layout, strict=True)
    ]
    return torch.cat([torch.zeros(rows, 0), *(column.cpu() for column in columns)], dim=1)


class _RecordingSource(NoiseSource):
    """The stream of another source, recorded."""

    def __init__(self, source: NoiseSource) -> None:
        super().__init__(source.seed)
        self.calls = source.calls
        self.draws: list[Tensor] = []

    def _record(self, generator: torch.Generator) -> Any:
        recorder = Recorder(generator)
        recorder.draws = self.draws
        return recorder

    def generator(self, device: torch.device | str = "cpu") -> Any:
        return self._record(super().generator(device))

    def in_windows(self, windows: Tensor, device: torch.device | str = "cpu") -> Any:
        return self._record(super().generator(device))


@contextmanager
def recorded(head: Any) -> Iterator[list[Tensor]]:
    """Everything that a policy draws through its head inside the block."""
    before = head.noise
    head.noise = _RecordingSource(before)
    try:
        yield head.noise.draws
    finally:
        head.noise = before
