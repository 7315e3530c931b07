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
from typing import Any, NamedTuple

import numpy as np
import torch

from vaerl.agents.bc import BC, Windows
from vaerl.data import Demonstrations, read_handwriting
from vaerl.data.handwriting import FILE, HELD_OUT_DRAWERS, Drawing, read_drawings
from vaerl.densities import IntractableError
from vaerl.envs.handwriting import TIME_LIMIT, HandwritingEnv, actions_of, draw, strokes_of
from vaerl.experiments.cloning.recogniser import Recogniser, train_recogniser
from vaerl.experiments.cloning.ways import Signature, distance, floor, signature

EVERYONE = range(1, 21)
RECOGNISER_EPOCHS = 40
WINDOWS = 2048
"""Windows of the held-out people on which the density is measured."""
SAMPLES = 64
"""Importance samples of a bound on the density."""
ASPECTS: Mapping[str, Callable[[Signature], Hashable]] = {
    "start": itemgetter(0),
    "direction": itemgetter(1),
    "order": itemgetter(2),
    "all": tuple,
}
"""What of a way of writing is compared."""

SETTINGS: Mapping[str, Any] = {}
"""Options of `vaerl.agents.BC` that all densities share."""


class Written(NamedTuple):
    """A drawing by a policy: its character, the path (steps, 3) and whether the policy ended it."""

    character: int
    path: np.ndarray
    ended: bool


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


def evaluate(
    agent: BC, episodes: int, seed: int, out: Path, data: str | None = None
) -> dict[str, float | None]:
    """What `agent` writes, beside people it has not seen.

    `recognised` is the share of drawings in which the recogniser reads the character asked for, and
    `people_recognised` that of the held-out people's drawings. `distance_…` lies between how the
    policy and those people write, `floor_…` between as many people and those people (`ways`).
    `nll` is −log p of a chunk of theirs in nats, standardised, or an upper bound; None where the
    density has none.

    Args:
        agent: predicts for a batch of observations.
        episodes: drawings, the same number of each character.
        seed: of the policy's noise.
        out: folder in which the recogniser is kept.
        data: see `demonstrations`.
    """
    path = find(data)
    recogniser = load_recogniser(path, out)
    people = read_drawings(path, drawers=HELD_OUT_DRAWERS)
    agent.policy.noise.reseed(seed)
    written = write(agent, np.arange(episodes) % recogniser.characters, recogniser.characters)
    paths = [(drawing.character, path_of(drawing)) for drawing in people]
    shared = [(w.character, w.path) for w in written]
    ours, theirs = ([(c, way_of(path)) for c, path in part] for part in (shared, paths))
    return {
        "recognised": recognised(recogniser, shared),
        "people_recognised": recognised(recogniser, paths),
        "ended": float(np.mean([w.ended for w in written])),
        **{
            f"distance_{name}": distance(_by(ours, of), _by(theirs, of))
            for name, of in ASPECTS.items()
        },
        **_floors(path, episodes // recogniser.characters),
        "nll": held_out_nll(agent, path),
    }


def write(agent: BC, characters: Sequence[int] | np.ndarray, known: int) -> list[Written]:
    """One drawing by `agent` of each of `characters`, side by side."""
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
        actions, state = agent.predict(batch, state, start)
        start = np.zeros(len(sheets), bool)
        for i, sheet in enumerate(sheets):
            if paths[i] is None:
                seen[i], _, ended[i], _, info = sheet.step(actions[i])
                if ended[i] or step == TIME_LIMIT - 1:
                    paths[i] = info["path"]
        if ended.all():
            break
    return [
        Written(int(character), path, bool(end))
        for character, path, end in zip(characters, paths, ended, strict=True)
        if path is not None
    ]


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


@torch.no_grad()
def held_out_nll(agent: BC, path: Path) -> float | None:
    """−log p of a standardised chunk of the held-out people in nats, or the bound above it."""
    windows = Windows(_held_out(path), agent.policy, agent.device)
    index = torch.linspace(0, len(windows) - 1, min(WINDOWS, len(windows))).long()
    observations, events = windows.rows(index)
    value = agent.policy.action_density(observations)
    try:
        bounds = value.log_prob_bounds(events, SAMPLES, generator=torch.Generator().manual_seed(0))
    except IntractableError:
        return None
    return float(-bounds.lower.mean())


def load_recogniser(path: Path, out: Path) -> Recogniser:
    """The recogniser in the folder `out`; it is trained on the first call."""
    file = out / "recogniser.safetensors"
    if not file.is_file():
        drawings = read_drawings(path)
        recogniser = train_recogniser(
            np.stack([np.asarray(d.image) for d in drawings]),
            np.array([d.character for d in drawings]),
            epochs=RECOGNISER_EPOCHS,
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
    raise FileNotFoundError(f"data: {given} holds no {FILE}")


@lru_cache(maxsize=1)
def _held_out(path: Path) -> Demonstrations:
    return read_handwriting(path, drawers=HELD_OUT_DRAWERS)


@lru_cache(maxsize=4)
def _floors(path: Path, count: int) -> dict[str, float]:
    """Distances between `count` people and five others, at most as many as there are."""
    people = [
        (d.character, d.drawer, way_of(path_of(d))) for d in read_drawings(path, drawers=EVERYONE)
    ]
    few = len(HELD_OUT_DRAWERS)
    sizes = min(max(count, 1), len(EVERYONE) - few), few
    return {
        f"floor_{name}": floor([(c, d, of(way)) for c, d, way in people], sizes)
        for name, of in ASPECTS.items()
    }


def _by(
    ways: Sequence[tuple[int, Signature]], of: Callable[[Signature], Hashable]
) -> list[tuple[int, Hashable]]:
    return [(character, of(way)) for character, way in ways]
