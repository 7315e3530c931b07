"""Demonstrations from LeRobot's layout: parquet tables of frames (extra `lerobot`, pyarrow alone).

    meta/info.json                         features, paths
    data/chunk-000/episode_000000.parquet  version 2: one table an episode
    data/chunk-000/file-000.parquet        version 3: many episodes a table

Columns read: ``action``, every ``observation.*`` that holds numbers, ``next.reward``,
``next.done``, ``next.success``, ``episode_index``. Videos are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from vaerl.disk.errors import one_line
from vaerl.disk.reading import check_tree, read_file

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
    place = path / "meta" / "info.json"
    info = jsonio.loads(read_file(place, jsonio.MAX_BYTES, follow=True), str(place))
    if not isinstance(info, dict):
        raise ValueError(f"{place}: expected an object")
    check_tree(path)
    found: dict[int, tuple[str, Episode]] = {}
    for place in sorted((path / "data").rglob("*.parquet")):
        for number, episode in _read_table(place):
            if number in found:
                raise ValueError(f"{place}, episode {number}: stands in {found[number][0]} too")
            found[number] = f"{place}, episode {number}", episode
    if not found:
        raise ValueError(
            f"data: {path} holds no episode, expected parquet files in {path / 'data'}"
        )
    names, episodes = zip(*(found[number] for number in sorted(found)), strict=True)
    return Demonstrations(
        episodes,
        infer_observation_space(episodes),
        infer_action_space(episodes),
        env=env,
        provenance={"lerobot": str(info.get("robot_type", "")), "fps": info.get("fps", 0)},
        names=names,
    )


def _read_table(path: Path) -> Iterator[tuple[int, Episode]]:
    """The episodes in a parquet file by number."""
    table = _read_columns(path)
    observed = sorted(name for name in table if name.startswith(PREFIX))
    if not observed or "action" not in table or "episode_index" not in table:
        raise ValueError(
            f"{path}: got the columns {sorted(table)}, expected action, episode_index and at least "
            f"one {PREFIX}* of numbers"
        )
    index = table["episode_index"]
    for number in dict.fromkeys(index.tolist()):
        rows = np.flatnonzero(index == number)
        if "frame_index" in table:
            rows = rows[np.argsort(table["frame_index"][rows], kind="stable")]
        parts = {name[len(PREFIX) :]: table[name][rows] for name in observed}
        done = bool(table["next.done"][rows][-1]) if "next.done" in table else False
        success = table.get("next.success")
        yield (
            int(number),
            Episode(
                next(iter(parts.values())) if len(parts) == 1 else parts,
                table["action"][rows],
                table["next.reward"][rows] if "next.reward" in table else None,
                terminated=done,
                truncated=not done,
                infos={} if success is None else {"success": success[rows]},
            ),
        )


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    """The numeric columns of a parquet file by name, in float32; a missing number is NaN."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"data: LeRobot's files need pyarrow ({error}): pip install 'vaerl[lerobot]'"
        ) from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: not a readable parquet file ({one_line(error, 120)})") from error
    found: dict[str, np.ndarray] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        kind: Any = column.type
        nested = pyarrow.types.is_list(kind) or pyarrow.types.is_fixed_size_list(kind)
        if not _is_number(pyarrow.types, kind.value_type if nested else kind):
            continue
        lengths = pyarrow.compute.list_value_length(column) if nested else None
        if lengths is not None and pyarrow.compute.count_distinct(lengths, mode="all").as_py() > 1:
            raise ValueError(f"{path}, {_ragged(table, lengths.to_pylist())}: column {name!r}")
        flat = column.flatten() if nested else column
        values = flat.cast(pyarrow.float32(), safe=False).to_numpy(zero_copy_only=False)
        found[name] = values.reshape(len(column), -1) if nested else values
    return found


def _ragged(table: Any, lengths: list[int | None]) -> str:
    """Episode and step of the first row with another number of entries than the first."""
    row = next(i for i, length in enumerate(lengths) if length != lengths[0])
    episodes = table.column("episode_index").to_pylist()
    step = episodes[:row].count(episodes[row])
    return (
        f"episode {episodes[row]}, step {step}: got {lengths[row]} numbers, expected {lengths[0]}"
    )


def _is_number(types: Any, kind: Any) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
