"""ColouredGoals: a point, eight coloured goals, and an instruction: which of them to reach.

    s' = clip(s + 0.25 a, ±1),   r = ‖s − g‖ − ‖s' − g‖ + [at g] − [at another],   g the one asked

Two goals of different colours lie on each of four sides; the colour that is asked for is on another
side too. "go to the red goal on the left" therefore needs both of its words, and a policy that
ignores them obeys one time in eight. Some combinations of colour and side can be kept out of
training: no goal of that colour is ever on that side there, though both words are learned from
others. A policy that has understood the words obeys the new combination all the same. Ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiDiscrete
from numpy.typing import NDArray

from vaerl.envs.base import Array, DrawnEnv, finite_vector, one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vaerl.envs.drawing import Painter

COLOURS = {"red": "#c0392b", "green": "#2e9e5b", "blue": "#2a7fb8", "yellow": "#d9a514"}
SIDES = ("left", "right", "top", "bottom")
VOCABULARY = ("", "go", "to", "the", "goal", "on", *COLOURS, *SIDES)
"""Words by token id; id 0 pads."""
LENGTH = 8
"""Tokens of an instruction."""
HELD_OUT = (("red", "left"), ("green", "right"), ("blue", "top"), ("yellow", "bottom"))
"""Combinations of colour and side that `combinations="training"` never shows."""
COMBINATIONS = ("all", "training", "held-out")

PLACES: Array = np.array(
    [(-0.85, 0.25), (-0.85, -0.25), (0.85, 0.25), (0.85, -0.25),
     (-0.25, 0.85), (0.25, 0.85), (-0.25, -0.85), (0.25, -0.85)]
)  # fmt: skip
"""Of the goals: two on each of `SIDES`, in their order."""
RADIUS = 0.2
STEP = 0.25
START = 0.15  # half side of the square in which episodes start


def instruction(colour: str, side: str) -> NDArray[np.int64]:
    """The token ids ``(LENGTH,)`` of an instruction.

    >>> " ".join(VOCABULARY[token] for token in instruction("red", "left"))
    'go to the red goal on the left'
    """
    words = ("go", "to", "the", colour, "goal", "on", "the", side)
    return np.array([VOCABULARY.index(word) for word in words], dtype=np.int64)


class ColouredGoalsEnv(DrawnEnv):
    """A planar point that is told which of eight coloured goals to reach.

    Observation, a Dict: "position" (2,) in [−1, 1]²; "goals" (16,), the places of the eight goals;
    "colours" (8,), the word for the colour of each, and "instruction" (8,), both token ids of
    `VOCABULARY`. That a place is on the left is not said: it has to be learned.
    Action: the step in units of 0.25, in [−1, 1]². The episode ends at any goal, or after 15 steps.
    Every `info` holds `goal` (index of the goal reached, −1 while none is), `is_success` (it is the
    one asked for), `position` (2,) and `asked` (colour, side).

    `reset(options={"ask": (colour, side)})` asks for that combination, also a held-out one;
    `{"start": (x, y)}` says where the episode starts.

    Args:
        combinations: of colour and side: "all", "training" (those of `HELD_OUT` are neither asked
            for nor to be seen) or "held-out" (only those are asked for).

    >>> env = ColouredGoalsEnv()
    >>> observation, info = env.reset(seed=0, options={"ask": ("red", "left")})
    >>> env.words
    'go to the red goal on the left'
    """

    observation_space: Dict  # type: ignore[assignment]
    action_space: Box

    def __init__(self, combinations: str = "all", *, render_mode: str | None = None) -> None:
        space = Dict(
            {
                "position": Box(-1.0, 1.0, (2,), np.float32),
                "goals": Box(-1.0, 1.0, (PLACES.size,), np.float32),
                "colours": MultiDiscrete([len(VOCABULARY)] * len(PLACES)),
                "instruction": MultiDiscrete([len(VOCABULARY)] * LENGTH),
            }
        )
        super().__init__(space, Box(-1.0, 1.0, (2,), np.float32), render_mode)
        self.combinations = one_of("combinations", combinations, COMBINATIONS)
        every = [(colour, side) for colour in COLOURS for side in SIDES]
        self._shown = [p for p in every if combinations != "training" or p not in HELD_OUT]
        self._askable = list(HELD_OUT) if combinations == "held-out" else self._shown
        self.goal_positions = PLACES
        self._state = np.zeros(2)
        self.colours: list[str] = [*COLOURS, *COLOURS]  # of the goals
        self._asked = every[0]
        self.target = 0

    @property
    def position(self) -> Array:
        """Where the point is ``(2,)``."""
        return self._state.copy()

    @property
    def words(self) -> str:
        """The instruction of this episode."""
        return " ".join(VOCABULARY[token] for token in instruction(*self._asked))

    def reset(  # type: ignore[override]
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Draw colours, instruction and start, where `options` does not say them."""
        super().reset(seed=seed)
        asked, start = self._read_options(options)
        rng = self.np_random
        if asked is None:
            asked = self._askable[int(rng.integers(len(self._askable)))]
        self.colours = self._draw_colours(asked)
        self._asked = asked
        first = 2 * SIDES.index(asked[1])
        self.target = first + self.colours[first : first + 2].index(asked[0])
        self._state = rng.uniform(-START, START, 2) if start is None else start
        self._trace = [self._place()]
        self._return = 0.0
        self._painter = None  # the goals' colours have changed
        return self._observe(), self._info(-1)

    def step(  # type: ignore[override]
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray], float, bool, bool, dict[str, Any]]:
        """Move by one step; raises ValueError on an action of wrong shape or with NaN."""
        if not self._trace:
            raise gymnasium.error.ResetNeeded("step() needs a call of reset() before it")
        box = self.action_space
        move = np.clip(finite_vector("action", action, box.shape), box.low, box.high)
        before = np.linalg.norm(self._state - PLACES[self.target])
        self._state = np.clip(self._state + STEP * move, -1.0, 1.0)
        distance = np.linalg.norm(self._state - PLACES, axis=1)
        nearest = int(distance.argmin())
        goal = nearest if distance[nearest] < RADIUS else -1
        reward = float(before - distance[self.target])
        if goal >= 0:
            reward += 1.0 if goal == self.target else -1.0
        self._trace.append(self._place())
        self._return += reward
        return self._observe(), reward, goal >= 0, False, self._info(goal)

    def map_artist(self, ax: Axes) -> None:
        """Draw this episode's goals in their colours, and the instruction."""
        from matplotlib.patches import Circle

        from vaerl.envs import drawing

        drawing.prepare(ax, (-1.0, 1.0), (-1.0, 1.0))
        for place, colour in zip(PLACES, self.colours, strict=True):
            ax.add_patch(Circle((place[0], place[1]), RADIUS, color=COLOURS[colour], zorder=2))
        drawing.draw_start(ax, 0.0, 0.0)
        ax.text(0.0, -0.95, self.words, ha="center", fontsize=11, color=drawing.INK)

    def _draw_colours(self, asked: tuple[str, str]) -> list[str]:
        """Two colours for each side; the asked one on its side, and on one that draws it freely."""
        rng = self.np_random
        others = [side for colour, side in self._shown if colour == asked[0] and side != asked[1]]
        holds = (asked[1], str(rng.choice(others)))
        colours: list[str] = []
        for side in SIDES:
            legal = [colour for colour, where in self._shown if where == side]
            pair = [legal[i] for i in rng.permutation(len(legal))[:2]]
            if side in holds and asked[0] not in pair:
                pair[int(rng.integers(2))] = asked[0]
            colours += pair
        return colours

    def _make_painter(self) -> Painter:
        from vaerl.envs.drawing import Painter

        return Painter(self.map_artist)

    def _place(self) -> tuple[float, float]:
        return float(self._state[0]), float(self._state[1])

    def _observe(self) -> dict[str, NDArray]:
        return {
            "position": self._state.astype(np.float32),
            "goals": PLACES.astype(np.float32).ravel(),
            "colours": np.array([VOCABULARY.index(colour) for colour in self.colours]),
            "instruction": instruction(*self._asked),
        }

    def _info(self, goal: int) -> dict[str, Any]:
        return {
            "goal": goal,
            "is_success": goal == self.target,
            "position": self._state.copy(),
            "asked": self._asked,
        }

    def _read_options(
        self, options: dict[str, Any] | None
    ) -> tuple[tuple[str, str] | None, Array | None]:
        """The combination asked for and the start, None where they are to be drawn."""
        given = dict(options or {})
        start = None
        if "start" in given:
            start = finite_vector("options['start']", given.pop("start"), (2,))
            if np.abs(start).max() > 1.0:
                raise ValueError(f"options['start']={start.tolist()} must lie in [-1, 1]")
        if "ask" not in given:
            asked = None
        else:
            pair = given.pop("ask")
            try:
                colour, side = pair
            except (TypeError, ValueError):
                raise ValueError(f"options['ask']={pair!r} must be (colour, side)") from None
            asked = (one_of("colour", colour, COLOURS), one_of("side", side, SIDES))
        if given:
            raise ValueError(
                f"options has the unknown entry {sorted(given)[0]!r}; legal are 'ask' and 'start'"
            )
        return asked, start
