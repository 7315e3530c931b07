"""What a policy holds for several steps in each environment: latent codes, or all of its noise.

Held noise is a window of the policy's random stream: while it lasts, every draw begins where the
first one began. Every action still comes from π(a | s), but one after the other they push the same
way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vaerl.densities import ConditionalDensity
from vaerl.densities.cvae import CVAE
from vaerl.densities.held import draw_held_codes

if TYPE_CHECKING:
    from vaerl.policies.sac import DensityActor

EPISODE = "episode"
WINDOWS = 1 << 24  # numbers that float32 holds exactly


class Held(NamedTuple):
    """What `predict` hands out as its state and takes back."""

    codes: np.ndarray
    """Latent codes ``(B, code_dim)``, or numbers of windows of the noise ``(B, 1)``."""
    ages: np.ndarray
    """Actions taken with them so far, ``(B,)``."""

    def older(self) -> Held:
        """The same codes after one more action."""
        return Held(self.codes, self.ages + 1)


class Holds(NamedTuple):
    """How long latent codes and noise are held: steps, or "episode"; one of them is 1."""

    latent: int | str
    noise: int | str

    @property
    def steps(self) -> int | str:
        """The time of what is held; 1 if nothing is."""
        return self.noise if self.latent == 1 else self.latent


def check_holds(
    latent_hold: int | str, noise_hold: int | str, density: ConditionalDensity
) -> Holds:
    """Both times if they are legal for that density, else one line."""
    holds = Holds(_check_time("latent_hold", latent_hold), _check_time("noise_hold", noise_hold))
    if holds.latent != 1 and not isinstance(density, CVAE):
        raise ValueError(
            f"latent_hold: got {latent_hold!r} with density {density.name!r}, expected 1: "
            "only a cvae has latents to hold; noise_hold is for any density"
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
    if not whole and value != EPISODE:
        raise ValueError(
            f"{argument}: got {value!r}, expected a number of steps >= 1 or {EPISODE!r}"
        )
    return value


def renew(
    actor: DensityActor,
    state: tuple[np.ndarray, ...] | None,
    episode_start: np.ndarray | None,
    rows: int,
) -> Held:
    """What to act with: that of `state`, drawn anew where an episode or its time began.

    Raises ValueError, in one line, if `state` is not one of this policy for so many observations.
    """
    fresh, hold = _draw(actor, rows), actor.holds.steps
    if state is None:
        return Held(fresh, np.zeros(rows, dtype=np.int64))
    codes, ages = _check_state(state, rows, fresh.shape[1])
    over = np.zeros(rows, dtype=bool) if hold == EPISODE else ages >= hold
    if episode_start is not None:
        starts = np.asarray(episode_start, dtype=bool)
        if starts.shape != (rows,):
            raise ValueError(
                f"episode_start: got shape {starts.shape}, expected {(rows,)}, one an observation"
            )
        over = over | starts
    return Held(np.where(over[:, None], fresh, codes), np.where(over, 0, ages))


def _draw(actor: DensityActor, rows: int) -> np.ndarray:
    """Latent codes, or one new window for all rows, in which each has its own place."""
    density = actor.density
    if actor.holds.latent == 1:
        return np.full((rows, 1), actor.noise.next_seed() % WINDOWS, np.float32)
    assert isinstance(density, CVAE), density.name
    return draw_held_codes(density, (rows,), actor.noise.generator(actor.device)).cpu().numpy()


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
