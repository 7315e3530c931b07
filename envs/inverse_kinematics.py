"""Inverse kinematics in one step: find all postures of a planar arm that reach a point.

    tip f(x) = (Σ_i l_i cos φ_i,  x₁ + Σ_i l_i sin φ_i),   φ_i = θ₁ + … + θ_i
    r(x) = log p(x) + log N(y; f(x), σ² I) − ½ Σ_o (d_o(x) / τ)²

d_o is how deep the arm enters the disc o, τ how soft the discs are. With temperature 1 the best
maximum-entropy policy is the posterior p(x | y) of the posture given a noisy sight y of the tip.
Its normaliser comes from Monte Carlo. Postures are in units of the arm (the slide, then radians),
never in a.
Source: Kruse, Ardizzone, Rother & Köthe 2021, "Benchmarking invertible architectures on inverse
problems" (four joints, without noise); arms of other lengths and obstacles are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from vaerl.envs.base import (
    Array,
    Observation,
    Outcome,
    StateEnv,
    finite_vector,
    positive_number,
)
from vaerl.envs.metrics import mmd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALE = 4.0  # standard deviations of the prior at the edge of the action box
JOINTS = (4, 8, 16)
SHOWN = 20  # arms in a frame
_ANGLE_STD, _SLIDE_STD = 0.5, 0.25
_BLOCK = 100_000  # postures drawn at once
_MOST_DRAWS = 100 * _BLOCK
_MMD_POSTURES = 2000
BANDWIDTHS = (0.25, 1.0, 4.0)  # in standard deviations of the prior


class Arm:
    """Geometry and prior of the arm: four joints with a slide, or n turning joints.

    Args:
        joints: 4 (the slide and lengths .5, .5, 1), 8 or 16 (no slide, n lengths of 2/n).

    >>> Arm(4).tip([0.25, 0.0, 0.0, 0.0]).tolist()
    [2.0, 0.25]
    """

    def __init__(self, joints: int = 4) -> None:
        if not isinstance(joints, int | np.integer) or joints not in JOINTS:
            raise ValueError(f"joints: got {joints!r}, expected one of {JOINTS}")
        self.joints = joints
        self.slides = joints == 4
        self.lengths: Array = (
            np.array([0.5, 0.5, 1.0]) if self.slides else np.full(joints, 2 / joints)
        )
        self.stds: Array = np.full(joints, _ANGLE_STD)
        if self.slides:
            self.stds[0] = _SLIDE_STD

    def points(self, x: ArrayLike) -> Array:
        """Return base, joints and tip (…, links + 1, 2) of postures (…, joints)."""
        x = np.asarray(x, dtype=np.float64)
        direction = np.cumsum(x[..., 1:] if self.slides else x, axis=-1)
        points = np.zeros((*x.shape[:-1], len(self.lengths) + 1, 2))
        points[..., 1:, 0] = np.cumsum(self.lengths * np.cos(direction), axis=-1)
        points[..., 1:, 1] = np.cumsum(self.lengths * np.sin(direction), axis=-1)
        if self.slides:
            points[..., 1] += x[..., :1]
        return points

    def tip(self, x: ArrayLike) -> Array:
        """Return the tips (…, 2) of postures (…, joints)."""
        return self.points(x)[..., -1, :]

    def bend(self, x: ArrayLike) -> NDArray[np.int64]:
        """Return 0 where the arm bends above the line from base to tip, 1 where below it: (…)."""
        points = self.points(x)
        line = points[..., -1, :] - points[..., 0, :]
        middle = points[..., len(self.lengths) // 2, :] - points[..., 0, :]
        above = line[..., 0] * middle[..., 1] - line[..., 1] * middle[..., 0] >= 0.0
        return np.where(above, 0, 1)

    def log_prior(self, x: ArrayLike) -> Array:
        """Return log p(x) (…) of postures (…, joints), in nats."""
        return _log_normal(np.asarray(x, dtype=np.float64), self.stds)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw postures (count, joints) from the prior."""
        return self.stds * rng.standard_normal((count, self.joints))


class Posterior:
    """p(x | y) of one target, cut to the action box, |x_i| ≤ 4 std of the prior.

    Args:
        arm: the arm.
        target: y, (2,).
        sigma: σ > 0.
        obstacles: discs (x, y, radius) that the arm should not enter.
        softness: τ > 0; σ if None.

    >>> posterior = Posterior(Arm(4), [1.5, 0.0], 0.1)
    >>> x = posterior.sample(2000, np.random.default_rng(0))
    >>> bool(posterior.log_prob(x).mean() > Arm(4).log_prior(x).mean())
    True
    """

    def __init__(
        self,
        arm: Arm,
        target: ArrayLike,
        sigma: float,
        obstacles: Sequence[Sequence[float]] | Array = (),
        softness: float | None = None,
    ) -> None:
        self.arm = arm
        self.target: Array = finite_vector("target", target, (2,))
        self.sigma = positive_number("sigma", sigma)
        self.softness = self.sigma if softness is None else positive_number("softness", softness)
        if not isinstance(obstacles, Sequence | np.ndarray) or isinstance(obstacles, str):
            raise ValueError(f"obstacles: got {obstacles!r}, expected discs (x, y, radius)")
        self.obstacles: Array = np.array(
            [finite_vector("obstacles", o, (3,)) for o in obstacles]
        ).reshape(-1, 3)
        if not (self.obstacles[:, 2] > 0.0).all():
            raise ValueError(f"obstacles: got {self.obstacles.tolist()}, expected radii above 0")

    def log_joint(self, x: ArrayLike) -> Array:
        """Return the reward, log p(x, y) less the price of obstacles, of postures: (…)."""
        return self.arm.log_prior(x) + self._log_accept(x) - math.log(2 * math.pi * self.sigma**2)

    def log_prob(self, x: ArrayLike) -> Array:
        """Return log p(x | y) (…) of postures inside the box, in nats."""
        return self.log_joint(x) - self.log_evidence

    @cached_property
    def log_evidence(self) -> float:
        """log ∫ exp(reward) over the box, from 10⁶ draws of the prior with a fixed seed.

        Raises:
            ValueError: no posture reaches the target.
        """
        rng = np.random.default_rng(0)
        total = sum(float(self._accept(self.arm.draw(_BLOCK, rng)).sum()) for _ in range(10))
        if total == 0.0:
            raise ValueError(f"target: got {self.target.tolist()}, expected one within reach")
        return math.log(total / (10 * _BLOCK)) - math.log(2 * math.pi * self.sigma**2)

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Draw postures (count, joints) by rejection from the prior.

        Raises:
            ValueError: 10⁷ draws do not give so many; the target is out of reach or σ too small.
        """
        kept: list[Array] = []
        for _ in range(_MOST_DRAWS // _BLOCK):
            x = self.arm.draw(_BLOCK, rng)
            kept.append(x[rng.random(_BLOCK) < self._accept(x)])
            if sum(map(len, kept)) >= count:
                return np.concatenate(kept)[:count]
        raise ValueError(
            f"target: got {self.target.tolist()}, expected one that many postures reach, or a "
            f"sigma above {self.sigma}"
        )

    def scores(self, x: ArrayLike) -> dict[str, float]:
        """Score postures (n, joints) of a policy as the benchmark does, and both bends.

        `error` is the mean of ‖f(x) − y‖ (the re-simulation error); `error_ceiling` that of the
        posterior itself; `mismatch` the squared MMD between the first 2000 postures and 2000 of the
        posterior (fixed seed), in standard deviations of the prior; `mismatch_floor` the same for
        2000 further draws of the posterior; `above` the share that bends above.
        """
        x = np.asarray(x, dtype=np.float64)
        exact = self.sample(2 * _MMD_POSTURES, np.random.default_rng(0)) / self.arm.stds
        first, second = exact[:_MMD_POSTURES], exact[_MMD_POSTURES:]
        drawn = x[:_MMD_POSTURES] / self.arm.stds
        return {
            "error": float(self.miss(x).mean()),
            "error_ceiling": float(self.miss(exact * self.arm.stds).mean()),
            "mismatch": mmd(drawn, first, BANDWIDTHS),
            "mismatch_floor": mmd(second, first, BANDWIDTHS),
            "above": float((self.arm.bend(x) == 0).mean()),
        }

    def miss(self, x: ArrayLike) -> Array:
        """Return the distance (…) of the tip from the target."""
        return np.linalg.norm(self.arm.tip(x) - self.target, axis=-1)

    def _accept(self, x: Array) -> Array:
        """The chance (…) that rejection keeps a posture; 0 outside the box."""
        inside = (np.abs(x) <= SCALE * self.arm.stds).all(axis=-1)
        return np.where(inside, np.exp(self._log_accept(x)), 0.0)

    def _log_accept(self, x: ArrayLike) -> Array:
        points = self.arm.points(x)
        squared = np.square((points[..., -1, :] - self.target) / self.sigma).sum(axis=-1)
        for disc in self.obstacles:
            squared = squared + np.square(np.maximum(depth(points, disc), 0.0) / self.softness)
        return -0.5 * squared


class InverseKinematicsEnv(StateEnv):
    """One step: the action is a posture, the reward its log-density jointly with the target.

    Observation: the target y (2,). Action: a ∈ [−1, 1]^n, the posture is x = 4 std a, std the
    prior's. An episode succeeds if the tip is within 3σ of the target; its goal is then the bend,
    0 above and 1 below the line from base to tip, else −1. `info` also holds `posture` (n,). Both
    bends are equally likely over drawn targets, and for each target on the axis, y₂ = 0.

    Args:
        joints: 4, 8 or 16.
        sigma: σ > 0, how sharply the target asks for the tip.
        obstacles: discs (x, y, radius) that the arm should not enter.
        softness: τ > 0, the depth that costs half a nat; σ if None.
        target: (y₁, y₂), the same in each episode; None draws a posture and takes its tip, with
            noise σ.

    >>> env = InverseKinematicsEnv(target=(2.0, 0.0))
    >>> observation, info = env.reset()
    >>> observation, reward, terminated, truncated, info = env.step(np.zeros(4))
    >>> observation.tolist(), round(reward, 3), terminated, info["is_success"]
    ([2.0, 0.0], 2.557, True, True)
    """

    evaluation_episodes = (200, 2000)
    num_modes = 2

    def __init__(
        self,
        *,
        joints: int = 4,
        sigma: float = 0.1,
        obstacles: Sequence[Sequence[float]] = (),
        softness: float | None = None,
        target: Sequence[float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.arm = Arm(joints)
        super().__init__(
            Box(-4.0, 4.0, (2,), np.float32), Box(-1.0, 1.0, (joints,), np.float32), render_mode
        )
        self.task = Posterior(
            self.arm, (0.0, 0.0) if target is None else target, sigma, obstacles, softness
        )
        if np.abs(self.task.target).max() > 4.0:
            raise ValueError(f"target: got {target!r}, expected within 4 on each axis")
        self.target = None if target is None else self.task.target
        self._posture: Array = np.zeros(joints)
        self._arms: list[Array] = []

    def postures(self, actions: ArrayLike) -> Array:
        """Return the postures (…, joints) that actions (…, joints) stand for."""
        return SCALE * self.arm.stds * np.asarray(actions, dtype=np.float64)

    def posterior(self, observation: ArrayLike) -> Posterior:
        """Return the best maximum-entropy policy for a target (2,), over postures."""
        task = self.task
        return Posterior(self.arm, observation, task.sigma, task.obstacles, task.softness)

    def _begin(self) -> None:
        self._posture = np.zeros(self.arm.joints)

    def _start(self) -> Array:
        if self.target is not None:
            return self.target
        tip = self.arm.tip(self.arm.draw(1, self.np_random)[0])
        return np.clip(tip + self.task.sigma * self.np_random.standard_normal(2), -4.0, 4.0)

    def _advance(self, action: Array) -> Outcome:
        self._posture = self.postures(action)
        self._arms = [*self._arms[1 - SHOWN :], self.arm.points(self._posture)]
        task = self.posterior(self._state)
        success = bool(task.miss(self._posture) <= 3.0 * task.sigma)
        goal = int(self.arm.bend(self._posture)) if success else -1
        return Outcome(float(task.log_joint(self._posture)), goal, success, terminated=True)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "goal": outcome.goal,
            "is_success": outcome.success,
            "position": np.array(self._place()),
            "posture": self._posture.copy(),
        }

    def _place(self) -> tuple[float, float]:
        x, y = self.arm.tip(self._posture)
        return float(x), float(y)

    def _drawn(self) -> list[tuple[float, float]]:
        """The last arms, with a gap between them."""
        arms = self._arms or [self.arm.points(self._posture)]
        gap = np.full((1, 2), np.nan)
        return [(float(x), float(y)) for arm in arms for x, y in np.concatenate([gap, arm])]

    def probe_observations(self) -> dict[str, Observation]:
        """Return targets far and near, on the axis and off it; or the one target."""
        if self.target is not None:
            return {"the target": self.target.astype(np.float32)}
        places = {"far": (1.9, 0.0), "middle": (1.5, 0.0), "near": (1.0, 0.0), "high": (1.4, 0.8)}
        return {name: np.array(place, dtype=np.float32) for name, place in places.items()}

    def map_artist(self, ax: Axes) -> None:
        """Draw the rail of the slide, the obstacles, and the target if there is only one."""
        from matplotlib.patches import Circle

        from vaerl.envs import drawing

        drawing.prepare(ax, (-0.5, 2.3), (-1.4, 1.4))
        rail = 2.0 * _SLIDE_STD if self.arm.slides else 0.03
        ax.plot([0.0, 0.0], [-rail, rail], color=drawing.WALL, linewidth=4, zorder=2)
        for x, y, radius in self.task.obstacles:
            ax.add_patch(Circle((x, y), radius, color=drawing.WALL, zorder=3))
        if self.target is not None:
            reach = 3.0 * self.task.sigma
            style = {"facecolor": drawing.TRACE + "30", "edgecolor": drawing.TRACE, "zorder": 5}
            ax.add_patch(Circle(tuple(self.target), reach, **style))

    def _draw_map(self, ax: Axes) -> None:
        self.map_artist(ax)


def draw_arms(ax: Axes, arm: Arm, x: Array, **style: Any) -> None:
    """Draw postures (n, joints) as lines from base to tip; `style` is of a LineCollection."""
    from matplotlib.collections import LineCollection

    ax.add_collection(LineCollection(list(arm.points(x)), **style))


def _log_normal(offset: Array, stds: Array) -> Array:
    scaled = offset / stds
    return -0.5 * (scaled * scaled + math.log(2.0 * math.pi)).sum(axis=-1) - np.log(stds).sum()


def depth(points: Array, disc: ArrayLike) -> Array:
    """How deep (…) arms (…, links + 1, 2) enter a disc (x, y, radius); below 0 outside it.

    >>> depth(Arm(4).points(np.zeros(4)), (0.5, 0.3, 0.2)).round(3).item()
    -0.1
    """
    *center, radius = np.asarray(disc, dtype=np.float64)
    start, link = points[..., :-1, :], np.diff(points, axis=-2)
    share = ((np.array(center) - start) * link).sum(axis=-1) / np.square(link).sum(axis=-1)
    nearest = start + np.clip(share, 0.0, 1.0)[..., None] * link
    return radius - np.linalg.norm(nearest - center, axis=-1).min(axis=-1)
