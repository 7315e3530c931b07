"""Characters drawn by people: what a policy learns from, and how its drawings are judged.

People draw the same character from different ends, in different directions and orders. A policy
learns from fifteen people of each alphabet and is compared with the five others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.data import Demonstrations, read_handwriting
from vaerl.data.handwriting import FILE, HELD_OUT_DRAWERS, Drawing, read_drawings
from vaerl.envs.handwriting import TIME_LIMIT, HandwritingEnv, actions_of, draw, strokes_of
from vaerl.experiments.cloning.judged import Judged, pad
from vaerl.experiments.cloning.recogniser import Recogniser, train_recogniser
from vaerl.experiments.cloning.ways import Signature, distance, floor, signature

EVERYONE = range(1, 21)
RECOGNISER = "recogniser.safetensors"
EPOCHS = 40
ASPECTS: Mapping[str, Callable[[Signature], Hashable]] = {
    "start": itemgetter(0),
    "direction": itemgetter(1),
    "order": itemgetter(2),
    "all": tuple,
}
"""What of a way of writing is compared."""

SETTINGS: Mapping[str, Any] = {
    "chunk": 24,
    "execute": 24,
    "stride": 24,
    "history": 1,
    "observation_noise": 0.1,
    "policy_kwargs": {
        "net_arch": (512, 512),
        "sigma_floor": 0.3,
        "wavelengths": (4.0, 2.0, 1.0, 0.5),
        "wave_inputs": (-4, -3, -2, -1),
    },
}
"""Options of `vaerl.agents.BC` for all densities: a chunk holds most drawings, and training sees
the moments at which one is decided; the pen is seen through waves."""

OWN: Mapping[str, Mapping[str, Any]] = {
    row: {
        "latent_temperature": temperature,
        "density_kwargs": {"latent_dims": dims, "hidden": 128},
    }
    for row, dims, temperature in (
        ("cvae", (8,), 0.5),
        ("cvae-L2", (8, 8), 0.5),
        ("act-z0", (8,), 1.0),
    )
}
"""Options of single densities."""
SHOWN = (10, 5)
"""Characters in the picture at most, and drawings of each."""


def demonstrations(
    count: int | None = None, seed: int = 0, data: str | None = None
) -> Demonstrations:
    """Drawings by the fifteen people of each alphabet to learn from.

    Args:
        count: how many, taken at random; all if None.
        seed: of that choice.
        data: folder that holds `omniglot-small.npz`, itself or in a folder omniglot; VAERL_DATA if
            None.
    """
    everything = read_handwriting(find(data))
    if count is None or count >= len(everything):
        return everything
    _, chosen = everything.split(count / len(everything), seed)
    assert chosen is not None
    return chosen


def unseen(data: str | None = None) -> Demonstrations:
    """Drawings by the five other people, on which a density is measured."""
    return read_handwriting(find(data), drawers=HELD_OUT_DRAWERS)


def judge(policy: Any, episodes: int, out: Path, data: str | None = None) -> Judged:
    """What `policy` writes, beside people it has not seen.

    `recognised` is the share of drawings in which the recogniser reads the character asked for, and
    `people` that of the held-out people's drawings. `distance_…` lies between how the policy and
    those people write, `floor_…` between as many people and five others (see `ways`). `ended` is
    the share of drawings that the policy ended itself.

    Args:
        policy: has the `predict` of Stable-Baselines3, with a state and for a batch.
        episodes: drawings, the same number of every character, at least one.
        out: folder in which the recogniser is kept.
        data: see `demonstrations`.
    """
    path = find(data)
    recogniser = load_recogniser(path, out)
    people = [(d.character, path_of(d)) for d in read_drawings(path, drawers=HELD_OUT_DRAWERS)]
    known = recogniser.characters
    each = max(1, episodes // known)
    written, ended = write(policy, np.tile(np.arange(known), each), known)
    ours, theirs = ([(c, way_of(path)) for c, path in part] for part in (written, people))
    numbers = {
        "recognised": recognised(recogniser, written),
        "people": recognised(recogniser, people),
        "ended": float(ended.mean()),
    }
    for name, of in ASPECTS.items():
        numbers[f"distance_{name}"] = distance(_by(ours, of), _by(theirs, of))
    numbers |= floors(path, each)
    chosen = range(0, known, -(-known // SHOWN[0]))
    shown = [[p for d, p in written if d == c][: SHOWN[1]] for c in chosen]
    padded = pad([path for drawings in shown for path in drawings])
    return Judged(numbers, padded.reshape(len(shown), -1, *padded.shape[1:]))


def write(
    policy: Any, characters: np.ndarray, known: int
) -> tuple[list[tuple[int, np.ndarray]], np.ndarray]:
    """Drawings of `characters` side by side: (character, path), and which of them were ended."""
    sheets = [HandwritingEnv(characters=known) for _ in characters]
    seen = [
        sheet.reset(options={"character": int(character)})[0]
        for sheet, character in zip(sheets, characters, strict=True)
    ]
    paths: list[np.ndarray | None] = [None] * len(sheets)
    ended = np.zeros(len(sheets), bool)
    state, start = None, np.ones(len(sheets), bool)
    for step in range(TIME_LIMIT):
        batch = {key: np.stack([row[key] for row in seen]) for key in seen[0]}
        actions, state = policy.predict(batch, state, start)
        start = np.zeros(len(sheets), bool)
        for i in np.flatnonzero(~ended):
            seen[i], _, ended[i], _, info = sheets[i].step(actions[i])
            if ended[i] or step == TIME_LIMIT - 1:
                paths[i] = info["path"]
        if ended.all():
            break
    return [
        (int(character), path)
        for character, path in zip(characters, paths, strict=True)
        if path is not None
    ], ended


def way_of(path: np.ndarray) -> Signature:
    """The signature of a path (steps, 3); a path without ink has one of its own."""
    strokes = strokes_of(path)
    return signature(strokes) if strokes else (-1, -1, ())


def path_of(drawing: Drawing) -> np.ndarray:
    """The path (steps, 3) of the pen that writes a person's drawing on the sheet."""
    actions = actions_of(drawing.strokes)
    return np.column_stack([(actions[:, :2] + 1.0) / 2.0, actions[:, 2] > 0.0])


def recognised(recogniser: Recogniser, paths: Sequence[tuple[int, np.ndarray]]) -> float:
    """Share of (character, path) whose drawing shows the character."""
    read = recogniser.read(np.stack([draw(path) for _, path in paths]))
    return float(np.mean(read == [character for character, _ in paths]))


def load_recogniser(path: Path, out: Path) -> Recogniser:
    """The recogniser in the folder `out`; it is trained on the first call."""
    file = out / RECOGNISER
    if not file.is_file():
        drawings = read_drawings(path)
        recogniser = train_recogniser(
            np.stack([np.asarray(d.image) for d in drawings]),
            np.array([d.character for d in drawings]),
            epochs=EPOCHS,
        )
        recogniser.save(file)
    return Recogniser.load(file)


def find(data: str | None) -> Path:
    """The file of drawings in the folder `data`, or in VAERL_DATA if None."""
    given = data or os.environ.get("VAERL_DATA")
    if not given:
        raise FileNotFoundError("data: no folder given, expected --data DIR or VAERL_DATA=DIR")
    places = Path(given), Path(given) / FILE, Path(given) / "omniglot" / FILE
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"data: {given} holds no {FILE}; it is made from the two small background sets of "
        "https://github.com/brendenlake/omniglot as docs/results/characters.md says"
    )


@lru_cache(maxsize=4)
def floors(path: Path, count: int) -> dict[str, float]:
    """Distances between `count` people, or as many as there are, and five others."""
    people = [
        (d.character, d.drawer, way_of(path_of(d))) for d in read_drawings(path, drawers=EVERYONE)
    ]
    few = len(HELD_OUT_DRAWERS)
    sizes = min(count, len(EVERYONE) - few), few
    return {
        f"floor_{name}": floor([(c, d, of(way)) for c, d, way in people], sizes)
        for name, of in ASPECTS.items()
    }


def _by(
    ways: Sequence[tuple[int, Signature]], of: Callable[[Signature], Hashable]
) -> list[tuple[int, Hashable]]:
    return [(character, of(way)) for character, way in ways]


def people_shown(data: str | None = None) -> list[list[np.ndarray]]:
    """Drawings by held-out people, of the characters and as many as `judge` gives for a picture."""
    drawings = read_drawings(find(data), drawers=HELD_OUT_DRAWERS)
    known = 1 + max(d.character for d in drawings)
    return [
        [path_of(d) for d in drawings if d.character == c][: SHOWN[1]]
        for c in range(0, known, -(-known // SHOWN[0]))
    ]
