"""Latent codes that a policy holds for several steps, one set an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vaerl.densities import ConditionalDensity
from vaerl.densities.cvae import CVAE
from vaerl.densities.held import draw_held_codes

if TYPE_CHECKING:
    from vaerl.policies.sac import DensityActor

EPISODE = "episode"


class Held(NamedTuple):
    """What `predict` hands out as its state and takes back."""

    codes: np.ndarray
    """``(B, code_dim)``."""
    ages: np.ndarray
    """Actions taken with them so far, ``(B,)``."""

    def older(self) -> Held:
        """The same codes after one more action."""
        return Held(self.codes, self.ages + 1)


def check_hold(latent_hold: int | str, density: ConditionalDensity) -> int | str:
    """Return `latent_hold` if it is legal for that density, else raise one line."""
    if isinstance(latent_hold, np.integer):
        latent_hold = int(latent_hold)
    whole = isinstance(latent_hold, int) and not isinstance(latent_hold, bool) and latent_hold >= 1
    if not whole and latent_hold != EPISODE:
        raise ValueError(
            f"latent_hold: got {latent_hold!r}, expected a number of steps >= 1 or {EPISODE!r}"
        )
    if latent_hold != 1 and not isinstance(density, CVAE):
        raise ValueError(
            f"latent_hold: got {latent_hold!r} with density {density.name!r}, expected 1: "
            "only a cvae has latents to hold"
        )
    return latent_hold


def renew(
    actor: DensityActor,
    state: tuple[np.ndarray, ...] | None,
    episode_start: np.ndarray | None,
    rows: int,
) -> Held:
    """The codes to act with: those of `state`, drawn anew where an episode or their time began.

    Raises ValueError, in one line, if `state` is not one of this policy for so many observations.
    """
    density, hold = actor.density, actor.latent_hold
    assert isinstance(density, CVAE), density.name
    fresh = draw_held_codes(density, (rows,), actor.noise.generator(actor.device)).cpu().numpy()
    if state is None:
        return Held(fresh, np.zeros(rows, dtype=np.int64))
    codes, ages = _check_state(state, rows, density.code_dim)
    over = np.zeros(rows, dtype=bool) if hold == EPISODE else ages >= hold
    if episode_start is not None:
        starts = np.asarray(episode_start, dtype=bool)
        if starts.shape != (rows,):
            raise ValueError(
                f"episode_start: got shape {starts.shape}, expected {(rows,)}, one an observation"
            )
        over = over | starts
    return Held(np.where(over[:, None], fresh, codes), np.where(over, 0, ages))


def _check_state(state: Any, rows: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    legal = f"codes {(rows, size)} and ages {(rows,)} as `predict` returned them"
    if not isinstance(state, tuple | list) or len(state) != 2:
        got = f"{len(state)} parts" if isinstance(state, tuple | list) else repr(state)
        raise ValueError(f"state: got {got}, expected {legal}")
    try:
        codes, ages = np.asarray(state[0], np.float32), np.asarray(state[1], np.int64)
    except (TypeError, ValueError):
        raise ValueError(f"state: got what is no numbers, expected {legal}") from None
    finite = bool(np.isfinite(codes).all())
    if codes.shape != (rows, size) or ages.shape != (rows,) or not finite:
        raise ValueError(
            f"state: got arrays of shapes {codes.shape} and {ages.shape}"
            f"{'' if finite else ', not all finite'}, expected {legal}"
        )
    return codes, ages
