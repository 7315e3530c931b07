"""What a sweep trains: settings that all trials share, and those in which they differ.

A specification reads like the options of `vaerl train`, in TOML:

    agent = "sac"
    env = "Pendulum-v1"
    steps = 5000
    seeds = "0-9"

    [grid]
    density = ["cvae", "gaussian"]
    agent_options.learning_rate = [1e-3, 3e-4]
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vaerl.disk.reading import read_file
from vaerl.names import check_name
from vaerl.runs.config import TrainConfig

LIMIT = 2**20  # bytes of a specification
MOST_SEEDS = 10_000
OWN = ("seed", "out")
"""Fields of a training that the sweep sets."""
FIELDS = tuple(item.name for item in fields(TrainConfig) if item.name not in OWN)
NESTED = tuple(item.name for item in fields(TrainConfig) if str(item.type).startswith("Mapping"))
"""Fields that hold options of their own, such as agent_options."""


@dataclass(frozen=True)
class Sweep:
    """Trainings that belong together: every combination of the grid's values, with every seed.

    Args:
        train: fields of a `TrainConfig` that all share.
        grid: values by field, such as "density" or "agent_options.learning_rate".
        seeds: of the trainings.

    >>> sweep = Sweep({"env": "Pendulum-v1"}, {"density": ["cvae", "gaussian"]}, (0, 1))
    >>> [(values, seed) for values, seed in sweep.combinations()][-1]
    ({'density': 'gaussian'}, 1)
    """

    train: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        """Check the names."""
        for name in self.train:
            check_name("sweep", name, FIELDS)
        for name, values in self.grid.items():
            check_place("grid", name)
            if len(values) != len({repr(value) for value in values}) or not values:
                raise ValueError(f"grid {name}: got {values!r}, expected different values")
        if not self.seeds:
            raise ValueError("seeds: got none, expected numbers such as 0-9")

    def combinations(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The values of the grid and the seed of every trial; the seeds of one follow each other.

        >>> [seed for _, seed in Sweep({"env": "Pendulum-v1"}, seeds=(3, 4)).combinations()]
        [3, 4]
        """
        for values in itertools.product(*self.grid.values()):
            for seed in self.seeds:
                yield dict(zip(self.grid, values, strict=True)), seed


def read_spec(path: Path) -> dict[str, Any]:
    """The tables of a TOML file: fields of a training, "seeds", "grid", "search".

    Raises:
        ValueError: one line that names the file.
    """
    try:
        data = tomllib.loads(read_file(path, LIMIT).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    for name in data:
        check_name(f"{path}", name, (*FIELDS, "seeds", "grid", "search"))
    for name in ("grid", "search"):
        if not isinstance(data.get(name, {}), dict):
            raise ValueError(f"{path}: {name}: got {data[name]!r:.60}, expected a table")
    return data


def check_place(what: str, name: str) -> str:
    """Return the name of a field, or of an option in it as FIELD.NAME; ValueError otherwise.

    >>> check_place("grid", "agent_options.learning_rate")
    'agent_options.learning_rate'
    >>> check_place("grid", "learning_rate")
    Traceback (most recent call last):
    ValueError: grid: got 'learning_rate', expected a field of a training, or agent_options.NAME, \
density_options.NAME, …
    """
    first, dot, rest = name.partition(".")
    if name in ("seed", "seeds"):
        raise ValueError(f"{what}: got {name!r}, expected --seeds for seeds")
    if not (first in NESTED and rest if dot else first in FIELDS and first not in NESTED):
        near = get_close_matches(name, FIELDS, n=1, cutoff=0.7)
        guess = f"did you mean {near[0]!r}? " if near and near[0] not in NESTED else ""
        raise ValueError(
            f"{what}: got {name!r}, {guess}expected a field of a training, or agent_options.NAME, "
            "density_options.NAME, …"
        )
    return name


def dotted(table: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """The entries of a table of TOML by field; options within a field by FIELD.NAME.

    >>> dotted({"density": ["cvae"], "agent_options": {"gamma": [0.9, 0.99]}})
    {'density': ['cvae'], 'agent_options.gamma': [0.9, 0.99]}
    """
    found: dict[str, Any] = {}
    for name, value in table.items():
        if name in NESTED and isinstance(value, Mapping):
            found |= {f"{name}.{inner}": own for inner, own in value.items()}
        else:
            found[name] = value
    return found


def merged(train: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a training with the values of a trial.

    >>> merged({"agent_options": {"gamma": 0.9}}, {"agent_options.tau": 0.1, "steps": 10})
    {'agent_options': {'gamma': 0.9, 'tau': 0.1}, 'steps': 10}
    """
    made = {name: dict(v) if isinstance(v, Mapping) else v for name, v in train.items()}
    for name, value in values.items():
        first, dot, rest = name.partition(".")
        if dot:
            made.setdefault(first, {})[rest] = value
        else:
            made[first] = value
    return made


def parse_seeds(seeds: str | int | Sequence[int]) -> tuple[int, ...]:
    """Read numbers and ranges, both ends included.

    >>> parse_seeds("0-3,7"), parse_seeds(5), parse_seeds([1, 2])
    ((0, 1, 2, 3, 7), (5,), (1, 2))
    """
    if isinstance(seeds, str):
        found: list[int] = []
        for part in seeds.split(","):
            ends = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
            if ends is None:
                raise ValueError(f"seeds: got {seeds!r:.60}, expected numbers such as 0-9 or 0,3,5")
            low, high = int(ends[1]), int(ends[2] or ends[1])
            if not low <= high < low + MOST_SEEDS:
                raise ValueError(f"seeds: got {part!r}, expected LOW-HIGH, at most {MOST_SEEDS:,}")
            found += range(low, high + 1)
    else:
        found = [seeds] if isinstance(seeds, int) else list(seeds)
    if any(type(seed) is not int or seed < 0 for seed in found):
        raise ValueError(f"seeds: got {seeds!r:.60}, expected whole numbers, 0 or more")
    return tuple(dict.fromkeys(found))


def label(values: Mapping[str, Any]) -> str:
    """A name for the values of a trial that can be part of a path.

    >>> label({"density": "cvae", "agent_options.policy_kwargs": {"net_arch": [64, 64]}})
    'cvae-policy_kwargs=net_arch-64-64'
    """
    words = []
    for name, value in values.items():
        text = re.sub(r"[^\w.+=]+", "-", str(value)).strip("-.")
        if isinstance(value, int | float) and value < 0:
            text = f"-{text}"
        words.append(text if isinstance(value, str) else f"{name.rpartition('.')[2]}={text}")
    return "-".join(words)
