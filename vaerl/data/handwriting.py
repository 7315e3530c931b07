"""Handwriting by people as demonstrations: Omniglot's pen strokes (Lake et al. 2015)."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaerl.data.arrays import MOST_BYTES, read_arrays
from vaerl.data.demonstrations import Demonstrations, Episode
from vaerl.disk.reading import read_file
from vaerl.envs.handwriting import SIZE, HandwritingEnv, actions_of
from vaerl.names import check_name

ENV = "vaerl/Handwriting-v0"
FILE = "omniglot-small.npz"
PIXELS = 105
"""Pixels along a side of Omniglot's paper."""
TRAINING_DRAWERS = tuple(range(1, 16))
HELD_OUT_DRAWERS = tuple(range(16, 21))
"""The people of each alphabet, by number, whom no policy sees."""
_KEYS = ("alphabets", "alphabet", "character", "drawer", "points", "stroke", "offsets")


class Drawing(NamedTuple):
    """One character by one person.

    `strokes` are arrays (n, 2) on the sheet with sides of length 1; `image` (28, 28) in [0, 1] is
    Omniglot's own picture, ink 1, or None where the file has none; `character` counts those that
    were read, in the order of the file, and `alphabet` counts all that the file has.
    """

    character: int
    drawer: int
    strokes: list[np.ndarray]
    image: np.ndarray | None
    alphabet: int


def is_handwriting(path: Path) -> bool:
    """Whether a path is the npz file that `read_handwriting` reads, or the folder that holds it."""
    if path.is_dir():
        return (path / FILE).is_file()
    if path.suffix != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {f"{key}.npy" for key in _KEYS} <= set(archive.namelist())


def read_drawings(
    path: str | Path,
    *,
    drawers: Collection[int] = TRAINING_DRAWERS,
    alphabets: Collection[str] | None = None,
) -> list[Drawing]:
    """Drawings of chosen people.

    Args:
        path: the npz file, or the folder that holds `omniglot-small.npz`.
        drawers: numbers of people, 1 to 20 in each alphabet. A number is a person within an
            alphabet; across alphabets it may be another.
        alphabets: names; None takes all.

    Raises:
        ValueError: the file lacks an array, no such alphabet, or nobody is left.
    """
    path = _file(path)
    arrays = read_arrays(path)
    missing = sorted(set(_KEYS) - set(arrays))
    if missing:
        raise ValueError(f"{path}: got no array {missing[0]!r}, expected {list(_KEYS)}")
    known = [str(name) for name in arrays["alphabets"]]
    for name in alphabets or ():
        check_name("alphabets", name, known)
    wanted = [i for i, name in enumerate(known) if alphabets is None or name in alphabets]
    chosen = np.isin(arrays["alphabet"], wanted)
    pairs = np.stack([arrays["alphabet"], arrays["character"]], axis=1)[chosen]
    numbers = {tuple(pair): i for i, pair in enumerate(np.unique(pairs, axis=0).tolist())}
    found = [
        _drawing(arrays, int(i), numbers)
        for i in np.flatnonzero(chosen & np.isin(arrays["drawer"], list(drawers)))
    ]
    if not found:
        raise ValueError(f"drawers: got {sorted(drawers)}, expected some of 1 to 20")
    return found


def read_handwriting(
    path: str | Path,
    *,
    drawers: Collection[int] = TRAINING_DRAWERS,
    alphabets: Collection[str] | None = None,
) -> Demonstrations:
    """Demonstrations of `vaerl/Handwriting-v0` by people; the arguments of `read_drawings`.

    Strokes are resampled at equal arc length and replayed, which gives the observations. Each step
    of an episode has `infos["character"]` and `infos["drawer"]`. No randomness is involved.
    """
    drawings = read_drawings(path, drawers=drawers, alphabets=alphabets)
    everyone = read_drawings(path, drawers=range(256), alphabets=alphabets)
    env = HandwritingEnv(characters=1 + max(drawing.character for drawing in everyone))
    return Demonstrations(
        [_episode(env, drawing) for drawing in drawings],
        env.observation_space,
        env.action_space,
        env=ENV,
        provenance={
            "source": "Omniglot, Lake, Salakhutdinov and Tenenbaum 2015, MIT licence",
            "sha256": hashlib.sha256(read_file(_file(path), MOST_BYTES, follow=True)).hexdigest(),
            "drawers": sorted(int(drawer) for drawer in drawers),
            "alphabets": sorted(alphabets) if alphabets is not None else None,
            "env_options": {"characters": env.characters},
        },
    )


def _file(path: str | Path) -> Path:
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"data: got {path}, expected Omniglot's strokes as an npz file")
    return path


def _drawing(arrays: dict[str, np.ndarray], i: int, numbers: dict[tuple, int]) -> Drawing:
    rows = slice(*arrays["offsets"][i : i + 2])
    points, stroke = arrays["points"][rows], arrays["stroke"][rows]
    # y counts downward from 0 at the top; a few points lie outside the paper.
    sheet = np.clip(points / PIXELS + [0.0, 1.0], 0.0, 1.0)
    image = arrays["images"][i] / 255.0 if "images" in arrays else None
    assert image is None or image.shape == (SIZE, SIZE)
    return Drawing(
        numbers[int(arrays["alphabet"][i]), int(arrays["character"][i])],
        int(arrays["drawer"][i]),
        [sheet[stroke == number] for number in np.unique(stroke)],
        image,
        int(arrays["alphabet"][i]),
    )


def _episode(env: HandwritingEnv, drawing: Drawing) -> Episode:
    observation, _ = env.reset(seed=0, options={"character": drawing.character})
    seen, actions = [observation], actions_of(drawing.strokes).astype(np.float32)
    for action in actions:
        observation, *_ = env.step(action)
        seen.append(observation)
    steps = len(actions)
    return Episode(
        {key: np.stack([row[key] for row in seen]) for key in observation},
        actions,
        terminated=True,
        infos={
            "character": np.full(steps, drawing.character),
            "drawer": np.full(steps, drawing.drawer),
        },
    )
