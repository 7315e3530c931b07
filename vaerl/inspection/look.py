"""What a policy does at one observation, and what each of its latents does there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaerl.inspection.away import share_away
from vaerl.inspection.modes import Modes, find_modes
from vaerl.inspection.subject import Subject

Array = NDArray[np.float64]
FEWER = 2048
"""Draws where one number of z, or the noise alone, varies."""
STARTS = 3
"""Places of z from which one number of it varies, and codes that are kept."""
SHOWN = 2000
"""Draws in a picture."""


@dataclass(frozen=True)
class Case:
    """Draws in which z is handled in one way."""

    modes: float
    """Number of modes; a mean where there are several places of z."""
    spread: float
    """Root of the mean variance of a number of the event."""


@dataclass(frozen=True)
class Latent:
    """What one number of z does while the others stay."""

    name: str
    share: float
    """Share of the variance of actions that goes if this number stays (total effect)."""
    modes: float
    """Modes as this number alone is drawn again; mean over places of the others."""


@dataclass(frozen=True)
class Look:
    """One observation."""

    name: str
    redrawn: Case
    modes: Modes
    centres: Array
    """Mean action of each mode ``(M, T, A)``, in units of the environment."""
    away: float | None
    """Share of draws away from the data; None where none are known."""
    kept: Case | None
    zero: Case | None
    zero_mode: int | None
    """The mode that z = 0 leads to."""
    zero_away: float | None
    """Share of draws at z = 0 where draws from the prior hardly ever lie."""
    decided: float | None
    """Share of the variance of actions that z decides; the rest is noise of the decoder."""
    latents: tuple[Latent, ...]
    shown: Array = field(repr=False)
    """Some draws ``(n, X)``, for a picture."""
    shown_modes: NDArray[np.int64] = field(repr=False)
    """Their modes."""
    shown_zero: Array | None = field(repr=False)
    """Draws at z = 0."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = self.modes
        ways = [
            {
                "share": share,
                "interval": interval,
                "spread": spread,
                "actions": actions,
            }
            for share, interval, spread, actions in zip(
                found.shares.tolist(),
                found.intervals.tolist(),
                found.spreads.tolist(),
                self.centres.tolist(),
                strict=True,
            )
        ]
        return {
            "state": self.name,
            "modes": ways,
            "away_from_data": self.away,
            **{name: _plain(getattr(self, name)) for name in ("redrawn", "kept", "zero")},
            "zero_mode": self.zero_mode,
            "zero_away": self.zero_away,
            "decided_by_z": self.decided,
            "latents": [vars(latent) for latent in self.latents],
        }


def look_at(
    subject: Subject,
    name: str,
    observation: Any,
    *,
    draws: int,
    seed: int,
    away: Callable[[Any, Array], float | None] | None = None,
) -> Look:
    """Count modes at one observation, with z drawn anew, kept, zero, and in part."""
    has_latents = bool(subject.latents)
    codes = subject.codes(draws, seed) if has_latents else None
    events = subject.draw(observation, codes, draws, seed + 1)
    found = find_modes(events)
    kept = zero = decided = zero_mode = zero_away = shown_zero = None
    latents: tuple[Latent, ...] = ()
    if codes is not None:
        some = codes[:FEWER], events[:FEWER]
        again = subject.draw(observation, some[0], len(some[0]), seed + 2)
        noise, total = _half_square(some[1], again), events.var(0).sum()
        decided = float(np.clip(1.0 - noise / total, 0.0, 1.0)) if total else None
        at = _Moving(subject, observation, seed + 3)
        starts = codes[:STARTS]
        kept = _mean([at.case(_repeated(code)) for code in starts])
        shown_zero = at.events(_repeated(subject.zero))
        zero = _case(shown_zero)
        zero_mode = int(_mode_at(shown_zero, events, found))
        zero_away = share_away(shown_zero, some[1])
        latents = tuple(
            Latent(
                part,
                at.effect(*some, place, noise, total),
                _mean([at.case(at.moved(_repeated(code), place)) for code in starts]).modes,
            )
            for place, part in enumerate(subject.latents)
        )
    return Look(
        name,
        Case(found.count, _spread(events)),
        found,
        np.array([subject.to_actions(centre[None])[0] for centre in found.centres]),
        None if away is None else away(observation, events),
        kept,
        zero,
        zero_mode,
        zero_away,
        decided,
        latents,
        events[:SHOWN],
        found.labels[:SHOWN],
        shown_zero,
    )


class _Moving:
    """Draws at one observation in which z changes in part; each call has noise of its own."""

    def __init__(self, subject: Subject, observation: Any, seed: int) -> None:
        self._subject, self._observation, self._seed = subject, observation, seed

    def events(self, codes: Array) -> Array:
        self._seed += 1
        return self._subject.draw(self._observation, codes, len(codes), self._seed)

    def case(self, codes: Array) -> Case:
        return _case(self.events(codes))

    def moved(self, codes: Array, place: int) -> Array:
        """The codes with one number drawn again."""
        self._seed += 1
        other = codes.copy()
        other[:, place] = self._subject.codes(len(codes), self._seed)[:, place]
        return other

    def effect(self, codes: Array, events: Array, place: int, noise: float, total: float) -> float:
        """Total effect of one number (Jansen 1999): ½ E |a − a'|² over the variance."""
        if not total:
            return 0.0
        change = _half_square(events, self.events(self.moved(codes, place)))
        return float(np.clip((change - noise) / total, 0.0, 1.0))


def _repeated(code: Array) -> Array:
    return np.repeat(code[None], FEWER, axis=0)


def _case(events: Array) -> Case:
    return Case(float(find_modes(events).count), _spread(events))


def _mean(cases: list[Case]) -> Case:
    return Case(
        float(np.mean([case.modes for case in cases])),
        float(np.sqrt(np.mean([case.spread**2 for case in cases]))),
    )


def _spread(events: Array) -> float:
    return float(np.sqrt(events.var(0).mean()))


def _half_square(first: Array, second: Array) -> float:
    return float(np.square(first - second).sum(1).mean() / 2)


def _mode_at(events: Array, draws: Array, found: Modes) -> int:
    """The mode of the draw that is nearest to the mean of events."""
    return int(found.labels[np.square(draws - events.mean(0)).sum(1).argmin()])


def _plain(case: Case | None) -> dict[str, float] | None:
    return None if case is None else {"modes": case.modes, "spread": case.spread}
