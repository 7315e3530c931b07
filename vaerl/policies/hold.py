"""Latent codes that a policy holds for several steps, one set an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    shapes = [np.shape(part) for part in state]
    if shapes != [(rows, density.code_dim), (rows,)]:
        raise ValueError(
            f"state: got arrays of shapes {shapes}, expected [{(rows, density.code_dim)}, "
            f"{(rows,)}], as `predict` returned it for so many observations"
        )
    codes, ages = state
    over = np.zeros(rows, dtype=bool) if hold == EPISODE else ages >= hold
    if episode_start is not None:
        over = over | np.asarray(episode_start, dtype=bool).reshape(rows)
    return Held(np.where(over[:, None], fresh, codes), np.where(over, 0, ages))
