"""Demonstrations from LeRobot's layout: parquet tables of frames (extra `lerobot`, pyarrow alone).

    meta/info.json                         features, paths
    data/chunk-000/episode_000000.parquet  version 2: one table an episode
    data/chunk-000/file-000.parquet        version 3: many episodes a table

Columns read: ``action``, every ``observation.*`` that holds numbers, ``next.reward``,
``next.done``, ``next.success``, ``episode_index``. Videos are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vaerl.data.demonstrations import (
    Demonstrations,
    Episode,
    infer_action_space,
    infer_observation_space,
)
from vaerl.disk import jsonio

PREFIX = "observation."


def is_lerobot(path: Path) -> bool:
    """Whether a folder has that layout."""
    return (path / "meta" / "info.json").exists() and (path / "data").is_dir()


def read_lerobot(path: Path, env: str = "") -> Demonstrations:
    """Read all episodes of a folder.

    One numeric observation feature gives a Box, several a Dict. An observation belongs to the
    action of the same frame; none follows the last action.

    Raises ValueError: pyarrow is missing, or no table holds actions and observations.
    """
    info = jsonio.loads((path / "meta" / "info.json").read_bytes(), str(path / "meta/info.json"))
    columns: dict[str, list[np.ndarray]] = {}
    for place in sorted((path / "data").rglob("*.parquet")):
        for name, values in _read_table(place).items():
            columns.setdefault(name, []).append(values)
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    observed = sorted(name for name in table if name.startswith(PREFIX))
    if not observed or "action" not in table or "episode_index" not in table:
        raise ValueError(
            f"data: {path} holds the columns {sorted(table)}, expected action, episode_index and "
            f"at least one {PREFIX}* of numbers"
        )
    episodes = []
    for index in np.unique(table["episode_index"]):
        rows = table["episode_index"] == index
        parts = {name[len(PREFIX) :]: table[name][rows] for name in observed}
        done = bool(table["next.done"][rows][-1]) if "next.done" in table else False
        success = table.get("next.success")
        episodes.append(
            Episode(
                next(iter(parts.values())) if len(parts) == 1 else parts,
                table["action"][rows],
                table["next.reward"][rows] if "next.reward" in table else None,
                terminated=done,
                truncated=not done,
                infos={} if success is None else {"success": success[rows].astype(np.float32)},
            )
        )
    return Demonstrations(
        episodes,
        infer_observation_space(episodes),
        infer_action_space(episodes),
        env=env,
        provenance={"lerobot": str(info.get("robot_type", "")), "fps": info.get("fps", 0)},
        names=[f"{path}, episode {i}" for i in range(len(episodes))],
    )


def _read_table(path: Path) -> dict[str, np.ndarray]:
    """The numeric columns of a parquet file by name."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"data: LeRobot's files need pyarrow ({error}): pip install 'vaerl[lerobot]'"
        ) from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: not a readable parquet file ({error})") from error
    found: dict[str, np.ndarray] = {}
    for name in table.column_names:
        kind: Any = table.schema.field(name).type
        nested = pyarrow.types.is_list(kind) or pyarrow.types.is_fixed_size_list(kind)
        inner = kind.value_type if nested else kind
        if not _is_number(pyarrow.types, inner):
            continue
        values = table.column(name).to_pylist()
        if nested and len({len(row) for row in values}) > 1:
            raise ValueError(f"{path}: column {name!r} holds rows of different lengths")
        found[name] = np.asarray(values, np.float32 if name != "episode_index" else np.int64)
    return found


def _is_number(types: Any, kind: Any) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
