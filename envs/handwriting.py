"""Handwriting: a pen writes a character, stroke by stroke, as people do in different ways.

The characters and the people are those of Omniglot (Lake, Salakhutdinov and Tenenbaum 2015,
"Human-level concept learning through probabilistic program induction", Science 350), read from a
folder that the user names; see `vaerl.data.read_handwriting`. The environment needs no data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict

from vaerl.envs.base import Array, DrawnEnv, Outcome
from vaerl.names import check_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHARACTERS = 242
"""Characters of the eight small background alphabets of Omniglot."""
TIME_LIMIT = 192
STEP = 14.0 / 105.0
"""Arc length of a step of a demonstration, in sides of the paper: 14 of Omniglot's 105 pixels."""
BEAT = 6
"""Steps of which the strokes of a demonstration take a multiple."""
SIZE = 28
"""Pixels along a side of the drawing that is judged."""
CANVAS = 7
"""Pixels along a side of the canvas that the writer sees."""
REST = (0.0, 0.0)
"""Where the pen starts."""
NIB = 0.2
"""Half the width of a line in pixels of the drawing; ink fades out over one pixel more."""

_AXIS = (np.arange(SIZE) + 0.5) / SIZE
_PIXELS: Array = np.stack(np.meshgrid(_AXIS, _AXIS[::-1]), axis=-1)  # row 0 is the top

Judge = Callable[[np.ndarray], int]
"""From a drawing (28, 28) in [0, 1], ink 1, to the character it shows."""


class HandwritingEnv(DrawnEnv):
    """A pen on a square sheet with sides of length 1, the origin at the lower left.

    Observation, a Dict: `pen` (4,) holds the position x, y, whether the pen is down (0 or 1) and
    the progress t / 192; `canvas` (49,) the ink so far on 7 × 7 pixels, row by row from the top;
    `character` (characters,) which one to write, as a one-hot vector. Action (4,) in [−1, 1]: the
    place x, y that the pen moves to in a straight line, −1 and 1 being opposite edges of the sheet;
    above 0 the pen is down on the way; above 0 the drawing ends there. The pen starts lifted at the
    lower left corner, where nobody draws, so that a clean sheet is easy to tell from a used one.

    The reward is 1 at the end if `judge` reads the character that was asked for, else 0; without
    a judge it is always 0. `info` holds `character` and `is_success`; at the end also
    `image` (28, 28) and `path` (steps, 3): x, y after each step, and whether it left ink.

    Args:
        characters: how many there are.
        judge: reads a drawing.
        render_mode: None or "rgb_array".

    >>> env = HandwritingEnv(characters=3)
    >>> observation, info = env.reset(seed=0, options={"character": 2})
    >>> observation["character"].tolist(), info["character"]
    ([0.0, 0.0, 1.0], 2)
    """

    def __init__(
        self,
        *,
        characters: int = CHARACTERS,
        judge: Judge | None = None,
        render_mode: str | None = None,
    ) -> None:
        if characters < 1:
            raise ValueError(f"characters: got {characters!r}, expected 1 or more")
        observed = Dict(
            {
                "pen": Box(0.0, 1.0, (4,), np.float32),
                "canvas": Box(0.0, 1.0, (CANVAS * CANVAS,), np.float32),
                "character": Box(0.0, 1.0, (characters,), np.float32),
            }
        )
        super().__init__(observed, Box(-1.0, 1.0, (4,), np.float32), render_mode)
        self.characters, self._judge = characters, judge
        self._character = 0
        self._path: list[tuple[float, float, float]] = []
        self._image = np.zeros((SIZE, SIZE))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Take a clean sheet; `options={"character": k}` asks for character k."""
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            check_name("options", name, ("character",))
        asked = options.get("character", self.np_random.integers(self.characters))
        if asked not in range(self.characters):
            raise ValueError(
                f"options['character']: got {asked!r}, expected 0 to {self.characters - 1}"
            )
        self._character = int(asked)
        self._state = np.array([*REST, 0.0])
        self._path, self._image = [], np.zeros((SIZE, SIZE))
        self._begin_trace()
        return self._observe(), self._info(Outcome(0.0))

    def _advance(self, action: Array) -> Outcome:
        start, down = self._state[:2], bool(action[2] > 0.0)
        end = (action[:2] + 1.0) / 2.0
        if down:
            np.maximum(self._image, _ink(start, end), out=self._image)
        self._state = np.array([*end, float(down)])
        self._path.append((float(end[0]), float(end[1]), float(down)))
        ended = bool(action[3] > 0.0)
        right = ended and self._judge is not None and self._judge(self._image) == self._character
        return Outcome(float(right), success=bool(right), terminated=ended)

    def _observe(self) -> Any:
        progress = min(len(self._path) / TIME_LIMIT, 1.0)
        return {
            "pen": np.array([*self._state, progress], np.float32),
            "canvas": shrink(self._image).astype(np.float32),
            "character": np.eye(1, self.characters, self._character, dtype=np.float32)[0],
        }

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        info: dict[str, Any] = {"character": self._character, "is_success": outcome.success}
        if outcome.terminated or len(self._path) >= TIME_LIMIT:
            info |= {"image": self._image.astype(np.float32), "path": np.array(self._path)}
        return info

    def _drawn(self) -> list[tuple[float, float]]:
        """Return the pen's way with gaps where it was lifted."""
        points = [self._trace[0]]
        for x, y, down in self._path:
            points += [(x, y)] if down else [(float("nan"), float("nan")), (x, y)]
        return points

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (0.0, 1.0), (0.0, 1.0))


def draw(path: np.ndarray) -> Array:
    """Drawing (28, 28) in [0, 1] that a path (steps, 3) leaves."""
    image, start = np.zeros((SIZE, SIZE)), np.array(REST)
    for x, y, down in path:
        end = np.array([x, y])
        if down:
            np.maximum(image, _ink(start, end), out=image)
        start = end
    return image


def shrink(image: np.ndarray) -> Array:
    """Canvas (49,) of a drawing (28, 28): the mean of each block of pixels."""
    block = SIZE // CANVAS
    return image.reshape(CANVAS, block, CANVAS, block).mean(axis=(1, 3)).ravel()


def strokes_of(path: np.ndarray) -> list[Array]:
    """Strokes (n, 2) of a path (steps, 3) that starts lifted."""
    strokes: list[list[Array]] = []
    before, was_down = np.array(REST), False
    for x, y, down in path:
        point = np.array([x, y])
        if down:
            if not was_down:
                strokes.append([before])
            strokes[-1].append(point)
        before, was_down = point, bool(down)
    return [np.array(stroke) for stroke in strokes]


def actions_of(strokes: Sequence[np.ndarray], step: float = STEP, beat: int = BEAT) -> Array:
    """Actions (T, 4) that write strokes (n, 2) on the sheet, in steps of equal arc length.

    One lifted step leads to the start of a stroke. The stroke is cut into equal parts no longer
    than `step`, so that every point of it lies within step / 2 of the drawing: into the fewest for
    which it takes a multiple of `beat` steps. So the pen is lifted on the beat only, and strokes
    of slightly different length are written in step.

    >>> actions_of([np.array([[0.5, 0.5], [0.5, 0.58]])], beat=3).round(2).tolist()
    [[0.0, 0.0, -1.0, -1.0], [0.0, 0.08, 1.0, -1.0], [0.0, 0.16, 1.0, 1.0]]
    """
    if not len(strokes):
        raise ValueError("strokes: got none, expected at least one")
    rows = []
    for stroke in strokes:
        first, *others = 2.0 * resample(np.asarray(stroke, np.float64), step, beat) - 1.0
        rows += [[*first, -1.0, -1.0], *([*point, 1.0, -1.0] for point in others)]
    rows[-1][3] = 1.0
    return np.array(rows)


def resample(stroke: np.ndarray, step: float = STEP, beat: int = 1) -> Array:
    """Points (m, 2) of a stroke (n, 2) at equal arc length of at most `step`.

    m is the smallest multiple of `beat` that is enough, and 2 or more.
    """
    lengths = np.linalg.norm(np.diff(stroke, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(lengths)])
    points = max(2, int(np.ceil(arc[-1] / step - 1e-9)) + 1)
    at = np.linspace(0.0, arc[-1], -(-points // beat) * beat)
    return np.stack([np.interp(at, arc, stroke[:, axis]) for axis in range(2)], axis=1)


def _ink(start: Array, end: Array) -> Array:
    """Ink (28, 28) of a straight line: 1 within the nib of it, fading to 0 over one pixel."""
    along = end - start
    length = float(along @ along)
    share = np.clip((_PIXELS - start) @ along / length, 0.0, 1.0) if length > 0 else np.zeros(())
    distance = np.linalg.norm(_PIXELS - start - share[..., None] * along, axis=-1)
    return np.clip(1.0 + NIB - SIZE * distance, 0.0, 1.0)
