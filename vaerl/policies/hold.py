"""Latent codes or noise that a policy holds for several steps in each environment.

Held noise is a window of the policy's random stream: while it lasts, every draw starts at the same
place of the stream. Each action still comes from π(a | s), but successive actions push the same
way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vaerl.densities import ConditionalDensity

EPISODE = "episode"
ZETA = "zeta"
ZETA_CAP = 16
"""Largest number of steps that "zeta" draws."""
WINDOWS = 1 << 24
"""Number of windows of the noise: whole numbers that float32 holds exactly."""


class Held(NamedTuple):
    """The state that `predict` returns and takes back."""

    codes: np.ndarray
    """Latent codes ``(B, code_dim)``, or numbers of windows of the noise ``(B, 1)``."""
    ages: np.ndarray
    """Actions taken with them so far, ``(B,)``."""

    def older(self) -> Held:
        """The same codes after one more action."""
        return Held(self.codes, self.ages + 1)


class Holds(NamedTuple):
    """How long latent codes and noise are held: steps, "episode" or "zeta"; one of them is 1."""

    latent: int | str
    noise: int | str

    @property
    def steps(self) -> int | str:
        """The hold time; 1 if nothing is held."""
        return self.noise if self.latent == 1 else self.latent

    def fresh_ages(self, count: int, seed: int) -> np.ndarray:
        """Ages ``(count,)`` at which new codes begin, so that they end at the same one."""
        if self.steps != ZETA:
            return np.zeros(count, dtype=np.int64)
        return ZETA_CAP - zeta_lengths(count, seed)


def zeta_lengths(count: int, seed: int) -> np.ndarray:
    """Numbers of steps n ``(count,)`` with P(n) ∝ n⁻², at most `ZETA_CAP`: mostly short, some long.

    >>> lengths = zeta_lengths(10_000, seed=0)
    >>> float(np.mean(lengths == 1).round(1)), int(lengths.max())
    (0.6, 16)
    """
    drawn = np.random.default_rng(seed).random(count)
    return 1 + np.searchsorted(np.cumsum(zeta_shares()[:-1]), drawn, side="right")


def zeta_shares() -> np.ndarray:
    """P(n) of 1 to `ZETA_CAP` steps; the last takes what is left."""
    below = 6.0 / (np.pi * np.arange(1, ZETA_CAP)) ** 2
    return np.append(below, 1.0 - below.sum())


def check_holds(
    latent_hold: int | str, noise_hold: int | str, density: ConditionalDensity
) -> Holds:
    """Both hold times; one that the density does not support raises one line."""
    holds = Holds(_check_time("latent_hold", latent_hold), _check_time("noise_hold", noise_hold))
    if holds.latent != 1 and not density.code_dim:
        raise ValueError(
            f"latent_hold: got {latent_hold!r} with density {density.name!r}, expected 1: "
            "it has no latents to hold; noise_hold is for any density"
        )
    if 1 not in holds:
        raise ValueError(
            f"noise_hold: got {noise_hold!r} with latent_hold {latent_hold!r}, expected 1 for one "
            "of them: held noise holds the latents too"
        )
    return holds


def _check_time(argument: str, value: int | str) -> int | str:
    if isinstance(value, np.integer):
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole and value not in (EPISODE, ZETA):
        raise ValueError(
            f"{argument}: got {value!r}, expected a number of steps >= 1, {EPISODE!r} or {ZETA!r}"
        )
    return value


def renew(
    fresh: np.ndarray,
    hold: int | str,
    state: tuple[np.ndarray, ...] | None,
    episode_start: np.ndarray | None,
    ages: np.ndarray | None = None,
) -> Held:
    """The codes to act with: those of `state`, or `fresh` ones where an episode or hold begins.

    Args:
        fresh: codes ``(B, code_dim)``, one for each observation.
        hold: number of steps, "episode" or "zeta".
        state: what the last call returned, None at the start.
        episode_start: where an episode begins, ``(B,)``.
        ages: at which fresh codes begin ``(B,)``, 0 by default.

    Raises:
        ValueError: `state` is not one of this policy for B observations.
    """
    rows = len(fresh)
    born = np.zeros(rows, dtype=np.int64) if ages is None else ages
    if state is None:
        return Held(fresh, born)
    codes, old = _check_state(state, rows, fresh.shape[1])
    limit = ZETA_CAP if hold == ZETA else hold
    over = np.zeros(rows, dtype=bool) if hold == EPISODE else old >= limit
    if episode_start is not None:
        starts = np.asarray(episode_start, dtype=bool)
        if starts.shape != (rows,):
            raise ValueError(
                f"episode_start: got shape {starts.shape}, expected {(rows,)}, one an observation"
            )
        over = over | starts
    return Held(np.where(over[:, None], fresh, codes), np.where(over, born, old))


def _check_state(state: Any, rows: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    legal = f"codes {(rows, size)} and ages {(rows,)} as `predict` returned them"
    if not isinstance(state, tuple | list) or len(state) != 2:
        got = f"{len(state)} parts" if isinstance(state, tuple | list) else repr(state)
        raise ValueError(f"state: got {got}, expected {legal}")
    try:
        codes, ages = np.asarray(state[0], np.float32), np.asarray(state[1], np.int64)
    except (TypeError, ValueError):
        raise ValueError(f"state: got {type(state[0]).__name__}, expected {legal}") from None
    finite = bool(np.isfinite(codes).all())
    if codes.shape != (rows, size) or ages.shape != (rows,) or not finite:
        raise ValueError(
            f"state: got arrays of shapes {codes.shape} and {ages.shape}"
            f"{'' if finite else ', not all finite'}, expected {legal}"
        )
    return codes, ages
