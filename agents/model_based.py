"""What the agents with a learned model share: fit options, logs, and a store of imagined steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from vaerl.dynamics import FitOptions, FitReport
from vaerl.names import check_name

Columns = tuple[Tensor, ...]


def fit_options(fit_kwargs: Mapping[str, Any] | None, **others: Any) -> FitOptions:
    """`FitOptions` from an agent's `fit_kwargs`; an unknown one raises the nearest name."""
    given = dict(fit_kwargs or {})
    for name in given:
        check_name("fit_kwargs: option", name, [f.name for f in fields(FitOptions)])
    return FitOptions(**{**others, **given})


def log_fit(logger: Any, report: FitReport, data: int) -> None:
    """Record what a fit did, under model/…."""
    logger.record("model/holdout_score", report.score)
    logger.record("model/score_spread", max(report.scores) - min(report.scores))
    logger.record("model/updates", report.steps)
    logger.record("model/transitions", data)


class Imagined:
    """Transitions from model roll-outs, those of the last few fits.

    Args:
        kept: number of fits.
    """

    def __init__(self, kept: int) -> None:
        self._parts: deque[Columns] = deque(maxlen=kept)
        self._all: Columns = ()

    def __len__(self) -> int:
        return len(self._all[0]) if self._all else 0

    def add(self, steps: list[ReplayBufferSamples]) -> None:
        """Keep the steps of one fit, and forget the oldest."""
        self._parts.append(_join([tuple(step[:5]) for step in steps]))
        self._all = _join(list(self._parts))

    def fill(
        self, batch: ReplayBufferSamples, real: int, generator: torch.Generator
    ) -> ReplayBufferSamples:
        """The first `real` rows of a batch, and imagined ones, drawn uniformly, for the rest."""
        rows = torch.randint(
            len(self),
            (len(batch.rewards) - real,),
            generator=generator,
            device=batch.rewards.device,
        )
        pairs = zip(batch[:5], self._all, strict=True)
        return ReplayBufferSamples(*(torch.cat((own[:real], all_[rows])) for own, all_ in pairs))


def _join(parts: list[Columns]) -> Columns:
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
