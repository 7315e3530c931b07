"""ColouredGoals: a point, coloured goals, and an instruction that names the one to reach.

    s' = clip(s + 0.25 a, ±1),   r = ‖s − g‖ − ‖s' − g‖ + [at g] − [at another],   g the one asked

"go to the red goal on the left": two goals of different colours lie on each of four sides, and the
asked colour also occurs on another side. Both words are needed; a policy that ignores them succeeds
one time in eight.

"go to the red goal", "go to the goal on the left": one goal lies on each side, all of different
colours. One word is enough; a policy that ignores it succeeds one time in four.

Some combinations of colour and side can be held out of training: no goal of that colour is then on
that side, though both words occur in other combinations. A policy that understands the words obeys
the new combination.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict, MultiDiscrete
from numpy.typing import NDArray

from vaerl.envs.base import Array, DrawnEnv, Outcome, finite_vector
from vaerl.names import check_name, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"red": "#c0392b", "green": "#2e9e5b", "blue": "#2a7fb8", "yellow": "#d9a514"}
SIDES = ("left", "right", "top", "bottom")
VOCABULARY = ("", "go", "to", "the", "goal", "on", *COLOURS, *SIDES)
"""Words by token id; id 0 pads."""
LENGTH = 8
"""Tokens of an instruction."""
HELD_OUT = (("red", "left"), ("green", "right"), ("blue", "top"), ("yellow", "bottom"))
"""Combinations of colour and side that `combinations="training"` never shows."""
COMBINATIONS = ("all", "training", "held-out")
ASKS = ("both", "colour", "side", "mixed")
ALONE = 0.5
"""Share of the episodes of `asks="mixed"` that say one word alone, colour and side alike."""
Asked = tuple[str | None, str | None]
"""Colour and side; None for a word that is not given."""

PLACES: Array = np.array(
    [(-0.85, 0.25), (-0.85, -0.25), (0.85, 0.25), (0.85, -0.25),
     (-0.25, 0.85), (0.25, 0.85), (-0.25, -0.85), (0.25, -0.85)]
)  # fmt: skip
"""Of the goals: two on each of `SIDES`, in their order."""
RADIUS = 0.2
STEP = 0.25
START = 0.15  # half side of the square in which episodes start


def instruction(colour: str | None = None, side: str | None = None) -> NDArray[np.int64]:
    """The token ids ``(LENGTH,)`` of an instruction that names a colour, a side, or both.

    >>> for tokens in (instruction("red", "left"), instruction("red"), instruction(side="left")):
    ...     print(" ".join(VOCABULARY[token] for token in tokens if token))
    go to the red goal on the left
    go to the red goal
    go to the goal on the left
    """
    words = ["go", "to", "the"]
    if colour is None and side is None:
        raise ValueError("instruction: got neither colour nor side, expected one of them or both")
    if colour is not None:
        words.append(check_name("colour", colour, COLOURS))
    words.append("goal")
    if side is not None:
        words += ["on", "the", check_name("side", side, SIDES)]
    tokens = np.zeros(LENGTH, dtype=np.int64)
    tokens[: len(words)] = [VOCABULARY.index(word) for word in words]
    return tokens


class ColouredGoalsEnv(DrawnEnv):
    """A point in the plane with an instruction which coloured goal to reach.

    Observation, a Dict: "position" (2,) in [−1, 1]²; "goals" (16,), the places of the eight goals;
    "colours" (8,), the word for the colour of each, 0 where a place is empty, and "instruction"
    (8,), both token ids of `VOCABULARY`. Which places are on the left has to be
    learned.
    Action: the step in units of 0.25, in [−1, 1]². The episode ends at any goal, or after 15 steps.
    Every `info` holds `goal` (index of the goal reached, else −1), `is_success` (it is the
    one asked for), `position` (2,) and `asked`: (colour, side), (colour,) or (side,).

    `reset(options={"ask": (colour, side)})` asks for that combination, also a held-out one;
    `{"ask": (colour,)}` and `{"ask": (side,)}` use that word alone, in a scene where it is enough;
    `{"start": (x, y)}` sets the start.

    Args:
        combinations: of colour and side: "all", "training" (those of `HELD_OUT` are neither asked
            for nor to be seen) or "held-out" (only those are asked for).
        asks: the words of instructions: "both", "colour" or "side" alone, or "mixed" (both in half
            of the episodes, each alone in a quarter).

    >>> env = ColouredGoalsEnv()
    >>> observation, info = env.reset(seed=0, options={"ask": ("red", "left")})
    >>> env.words
    'go to the red goal on the left'
    >>> observation, info = env.reset(options={"ask": ("red",)})
    >>> env.words, env.colours.count("red")
    ('go to the red goal', 1)
    """

    observation_space: Dict  # type: ignore[assignment]
    action_space: Box

    def __init__(
        self,
        combinations: str = "all",
        asks: str = "both",
        *,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        for name, value in unknown.items():
            raise TypeError(
                f"{name}: got {value!r}, but there is no such argument; "
                f"{did_you_mean(name, ('combinations', 'asks', 'render_mode'))}"
            )
        space = Dict(
            {
                "position": Box(-1.0, 1.0, (2,), np.float32),
                "goals": Box(-1.0, 1.0, (PLACES.size,), np.float32),
                "colours": MultiDiscrete([len(VOCABULARY)] * len(PLACES)),
                "instruction": MultiDiscrete([len(VOCABULARY)] * LENGTH),
            }
        )
        super().__init__(space, Box(-1.0, 1.0, (2,), np.float32), render_mode)
        self.combinations = check_name("combinations", combinations, COMBINATIONS)
        self.asks = check_name("asks", asks, ASKS)
        every = [(colour, side) for colour in COLOURS for side in SIDES]
        self._shown = [p for p in every if combinations != "training" or p not in HELD_OUT]
        self._askable = list(HELD_OUT) if combinations == "held-out" else self._shown
        self.goal_positions = PLACES
        self._state = np.zeros(2)
        self.colours: list[str] = [*COLOURS, *COLOURS]  # of the goals, "" where there is none
        self._asked: Asked = every[0]
        self._tokens = instruction(*every[0])
        self.target = 0

    @property
    def position(self) -> Array:
        """The position of the point ``(2,)``."""
        return self._state.copy()

    @property
    def words(self) -> str:
        """The instruction of this episode."""
        return " ".join(VOCABULARY[token] for token in self._tokens if token)

    def reset(  # type: ignore[override]
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Draw the colours, instruction and start that `options` does not give."""
        super().reset(seed=seed)
        asked, start = self._read_options(options)
        self._asked = self._draw_asked() if asked is None else asked
        self._tokens = instruction(*self._asked)
        colour, side = self._asked
        if colour is not None and side is not None:
            self.colours = self._draw_eight(colour, side)
            first = 2 * SIDES.index(side)
            self.target = first + self.colours[first : first + 2].index(colour)
        else:
            self.colours, self.target = self._draw_four(colour, side)
        self._state = self.np_random.uniform(-START, START, 2) if start is None else start
        self._begin_trace()
        self._painter = None  # the goals' colours have changed
        return self._observe(), self._info(Outcome(0.0))

    def _advance(self, action: Array) -> Outcome:
        before = np.linalg.norm(self._state - PLACES[self.target])
        self._state = np.clip(self._state + STEP * action, -1.0, 1.0)
        distance = np.linalg.norm(self._state - PLACES, axis=1)
        after = distance[self.target]
        distance[[not colour for colour in self.colours]] = np.inf  # nothing is there
        nearest = int(distance.argmin())
        goal = nearest if distance[nearest] < RADIUS else -1
        reward = float(before - after)
        if goal >= 0:
            reward += 1.0 if goal == self.target else -1.0
        return Outcome(reward, goal, success=goal == self.target, terminated=goal >= 0)

    def map_artist(self, ax: Axes) -> None:
        """Draw this episode's goals in their colours, and the instruction."""
        from matplotlib.patches import Circle

        from vaerl.envs import drawing

        drawing.prepare(ax, (-1.0, 1.0), (-1.0, 1.0))
        for place, colour in zip(PLACES, self.colours, strict=True):
            if colour:
                ax.add_patch(Circle((place[0], place[1]), RADIUS, color=COLOURS[colour], zorder=2))
        drawing.draw_start(ax, 0.0, 0.0)
        ax.text(0.0, -0.95, self.words, ha="center", fontsize=11, color=drawing.INK)

    def _draw_asked(self) -> Asked:
        """A combination of words, and which of them the instruction names."""
        rng = self.np_random
        colour, side = self._askable[int(rng.integers(len(self._askable)))]
        said = self.asks
        if said == "mixed":
            said = str(rng.choice(ASKS[:3], p=(1.0 - ALONE, ALONE / 2.0, ALONE / 2.0)))
        return None if said == "side" else colour, None if said == "colour" else side

    def _draw_eight(self, asked: str, on: str) -> list[str]:
        """Two colours for each side; the asked one on its side, and on one that draws it freely."""
        rng = self.np_random
        others = [side for colour, side in self._shown if colour == asked and side != on]
        holds = (on, str(rng.choice(others)))
        colours: list[str] = []
        for side in SIDES:
            legal = [colour for colour, where in self._shown if where == side]
            pair = [legal[i] for i in rng.permutation(len(legal))[:2]]
            if side in holds and asked not in pair:
                pair[int(rng.integers(2))] = asked
            colours += pair
        return colours

    def _draw_four(self, asked: str | None, on: str | None) -> tuple[list[str], int]:
        """One goal on each side, all of different colours, and the one that the word names."""
        rng = self.np_random
        pairs = [(c, s) for c, s in self._askable if asked in (None, c) and on in (None, s)]
        pair = pairs[int(rng.integers(len(pairs)))]
        orders = [
            order
            for order in ([*zip(some, SIDES, strict=True)] for some in permutations(COLOURS))
            if pair in order and all(each in self._shown for each in order)
        ]
        colours = [""] * len(PLACES)
        for number, (colour, _) in enumerate(orders[int(rng.integers(len(orders)))]):
            colours[2 * number + int(rng.integers(2))] = colour
        return colours, colours.index(pair[0])

    def _draw_map(self, ax: Axes) -> None:
        self.map_artist(ax)

    def _observe(self) -> dict[str, NDArray]:
        return {
            "position": self._state.astype(np.float32),
            "goals": PLACES.astype(np.float32).ravel(),
            "colours": np.array([VOCABULARY.index(colour) for colour in self.colours]),
            "instruction": self._tokens.copy(),
        }

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "goal": outcome.goal,
            "is_success": outcome.success,
            "position": self._state.copy(),
            "asked": tuple(word for word in self._asked if word is not None),
        }

    def _read_options(self, options: dict[str, Any] | None) -> tuple[Asked | None, Array | None]:
        """The asked combination and the start; None for those to be drawn."""
        if not isinstance(options, Mapping | None):
            raise ValueError(f"options: got {options!r}, expected a dict with 'ask' and 'start'")
        given = dict(options or {})
        start = None
        if "start" in given:
            start = finite_vector("options['start']", given.pop("start"), (2,))
            if np.abs(start).max() > 1.0:
                raise ValueError(f"options['start']: got {start.tolist()}, expected in [-1, 1]")
        asked = _read_ask(given.pop("ask")) if "ask" in given else None
        for name in given:
            check_name("options", name, ("ask", "start"))
        return asked, start


def _read_ask(words: Any) -> Asked:
    """The option "ask": two words or one; ValueError for anything else."""
    try:
        said = () if isinstance(words, str) else tuple(words)
    except TypeError:
        said = ()
    if len(said) == 2:
        return check_name("colour", said[0], COLOURS), check_name("side", said[1], SIDES)
    if len(said) != 1:
        raise ValueError(
            f"options['ask']: got {words!r}, expected (colour, side), (colour,) or (side,)"
        )
    word = check_name("ask", said[0], (*COLOURS, *SIDES))
    return (word, None) if word in COLOURS else (None, word)
