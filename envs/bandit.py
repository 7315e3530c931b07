"""A one-state bandit whose reward is the log-density of a mixture with 40 modes.

    x = 40 a,   r(a) = log p(x),   p(x) = (1/40) Σ_m N(x; μ_m, σ² I),   σ = softplus(1) = 1.313262

With temperature 1 the best maximum-entropy policy is p itself, cut to the box |x| ≤ 40 (which
holds .982673 of its mass): entropy 6.835 nats in x, −.543 in a.
Source of the target: Midgley et al. 2023 (FAB). Arrays of points are (…, 2), in x, never in a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from vaerl.envs.bandit40_means import MEANS_40
from vaerl.envs.base import Array, Observation, Outcome, PlanarEnv, kept_goals
from vaerl.envs.laws import MixtureLaw
from vaerl.envs.metrics import mmd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALE = 40.0  # x = SCALE · a
STD = math.log1p(math.e)
MEANS: Array = np.array(MEANS_40)
NUM_MODES = len(MEANS)
LOG_THRESHOLD_99 = math.log(3.59e-5)  # log p on the border of the 99 % highest-density region
LOG_THRESHOLD_95 = math.log(1.61e-4)
_ALL = np.arange(NUM_MODES)
_BANDWIDTHS = (STD, 4.0 * STD, 16.0 * STD)  # one mode, its neighbours, the whole box
_MMD_POINTS = 2000


def _law(kept: NDArray[np.int64]) -> MixtureLaw:
    """The mixture in equal parts of the means with these indices."""
    return MixtureLaw(np.full(len(kept), 1.0 / len(kept)), MEANS[kept], STD)


_TARGET = _law(_ALL)


class Bandit40Env(PlanarEnv):
    """One state, one step: the action picks a point, the reward is its log-density in nats.

    Observation: always [0]. Action: a ∈ [−1, 1]². An episode's goal is the nearest mean's index
    if it lies within 3 standard deviations, else −1.

    Args:
        removed_goals: indices of modes that are missing in p, a mixture of the others in equal
            parts.

    >>> env = Bandit40Env()
    >>> observation, info = env.reset()
    >>> observation, reward, terminated, truncated, info = env.step(MEANS[7] / 40)
    >>> observation.tolist(), round(reward, 3), terminated, info["goal"]
    ([0.0], -6.02, True, 7)
    """

    evaluation_episodes = (200, 2000)
    num_modes = NUM_MODES
    _one_step = True

    def __init__(
        self, *, removed_goals: Sequence[int] = (), render_mode: str | None = None
    ) -> None:
        super().__init__(
            Box(-1.0, 1.0, (1,), np.float32), Box(-1.0, 1.0, (2,), np.float32), render_mode
        )
        self.goal_positions: Array = MEANS.copy()
        self.removed_goals = tuple(removed_goals)
        self._kept = kept_goals(removed_goals, NUM_MODES)
        self._law = _law(self._kept)
        self._chosen: Array = np.zeros(2)

    def _begin(self) -> None:
        self._chosen = np.zeros(2)

    def _start(self) -> Array:
        return np.zeros(1)

    def _check_state(self, state: Array) -> None:
        if state[0] != 0.0:
            raise ValueError(f"options['state']: got {state.tolist()}, expected [0.0]")

    def _advance(self, action: Array) -> Outcome:
        self._chosen = SCALE * action
        goal = int(modes_hit(self._chosen, self._kept))
        reward = float(self._law.log_prob(self._chosen))
        return Outcome(reward, goal, success=goal >= 0, terminated=True)

    def _place(self) -> tuple[float, float]:
        return float(self._chosen[0]), float(self._chosen[1])

    def position(self, observation: np.ndarray) -> Array:
        """Return the origin: the state has no position; `info["position"]` is the chosen x."""
        return np.zeros(2)

    def probe_observations(self) -> dict[str, Observation]:
        """Return the one state."""
        return {"the state": np.zeros(1, dtype=np.float32)}

    def map_artist(self, ax: Axes) -> None:
        """Draw the log-density and the 40 means, in x."""
        from vaerl.envs import drawing

        drawing.prepare(ax, (-SCALE, SCALE), (-SCALE, SCALE))
        line = np.linspace(-SCALE, SCALE, 161)
        values = self._law.log_prob(np.stack(np.meshgrid(line, line), axis=-1))
        ax.imshow(
            np.maximum(values, -14.0),
            vmax=-2.0,
            extent=(-SCALE, SCALE, -SCALE, SCALE),
            origin="lower",
            cmap="Blues",
            interpolation="bilinear",
            zorder=0,
        )
        ax.plot(
            *MEANS[self._kept].T,
            linestyle="",
            marker="+",
            color=drawing.INK,
            markersize=5,
            zorder=2,
        )


def log_prob(x: Array) -> Array:
    """Return the exact log-density in nats of points x (…, 2): shape (…).

    >>> log_prob(np.zeros((3, 2))).round(4).tolist()
    [-23.3163, -23.3163, -23.3163]
    """
    return _TARGET.log_prob(x)


def sample(count: int, rng: np.random.Generator) -> Array:
    """Draw points (count, 2) from the target cut to the box |x| ≤ 40, by rejection."""
    points = np.empty((0, 2))
    while len(points) < count:
        centers = MEANS[rng.integers(NUM_MODES, size=2 * count)]
        drawn = centers + STD * rng.normal(size=(2 * count, 2))
        points = np.concatenate([points, drawn[(np.abs(drawn) <= SCALE).all(axis=1)]])
    return points[:count]


def modes_hit(x: Array, among: NDArray[np.int64] = _ALL) -> NDArray[np.int64]:
    """Return the index (…) of the mean nearest to each point (…, 2), −1 beyond 3 std of all.

    `among` are the indices of the means that count.
    """
    offset = np.asarray(x, dtype=np.float64)[..., None, :] - MEANS[among]
    squared = np.square(offset).sum(axis=-1)
    return np.where(squared.min(axis=-1) <= (3.0 * STD) ** 2, among[squared.argmin(axis=-1)], -1)


def bandit_metrics(x: Array) -> dict[str, float]:
    """Score samples x (n, 2) of a policy: coverage and the share of waste, always together.

    `modes` counts means (of 40) that are nearest to some sample within 3 std; `outside_99`,
    `outside_95` are the shares below the densities that bound the 99 % and 95 % regions;
    `outside_3std` the share beyond 3 std of all means; `mmd` compares the first 2000 samples with
    2000 exact ones (fixed seed). The target in the box itself scores 40, .0102, .0509, .0076, and
    an MMD² of about .001.

    >>> scores = bandit_metrics(sample(2000, np.random.default_rng(0)))
    >>> scores["modes"], scores["outside_95"] < 0.08
    (40.0, True)
    """
    points = np.asarray(x, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"x: got shape {points.shape}, expected (n, 2) with n ≥ 1")
    density = log_prob(points)
    hit = modes_hit(points)
    exact = sample(_MMD_POINTS, np.random.default_rng(0))
    return {
        "modes": float(len(np.unique(hit[hit >= 0]))),
        "outside_99": float((density < LOG_THRESHOLD_99).mean()),
        "outside_95": float((density < LOG_THRESHOLD_95).mean()),
        "outside_3std": float((hit < 0).mean()),
        "mmd": mmd(points[:_MMD_POINTS], exact, _BANDWIDTHS),
    }
