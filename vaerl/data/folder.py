"""Demonstrations as a folder of npz files, one for each episode.

    demos/demonstrations.json    environment and provenance
    demos/spaces.npz             bounds of the boxes
    demos/episode-00000.npz      observations, actions, rewards, terminated, truncated, infos/<name>

Arrays of a Dict observation are named ``observations/<key>``. A folder of your own needs no more
than npz files with ``observations`` and ``actions``; files are read in the order of their names.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from vaerl.data.arrays import read_arrays
from vaerl.data.demonstrations import (
    Demonstrations,
    Episode,
    Observations,
    check_observation_space,
    env_spaces,
    infer_action_space,
    infer_observation_space,
)
from vaerl.disk import files, jsonio
from vaerl.disk.reading import read_file

HEADER = "demonstrations.json"
SPACES = "spaces.npz"
EPISODES = "episode-[0-9]*.npz"
OBSERVATIONS, INFOS = "observations", "infos/"
MAY_DIFFER = ("command", "versions")
"""Parts of the provenance in which a continued recording may differ."""


def write_folder(demonstrations: Demonstrations, path: str | os.PathLike[str]) -> Path:
    """Write demonstrations to a new or empty folder and return it.

    Raises ValueError if the folder holds demonstrations already.
    """
    folder = FolderWriter(
        path,
        demonstrations.observation_space,
        demonstrations.action_space,
        env=demonstrations.env,
        provenance=demonstrations.provenance,
    )
    if folder.numbers:
        raise ValueError(f"path: {path} holds episodes already, expected an empty folder")
    for number, episode in enumerate(demonstrations):
        folder.add(episode, number)
    return folder.path


class FolderWriter:
    """A folder that episodes are added to; an interrupted one goes on after its last episode.

    Args:
        path: the folder; made where it does not exist.
        observation_space, action_space, env, provenance: as in `Demonstrations`.

    Raises:
        ValueError: the folder holds demonstrations of another origin.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        env: str = "",
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        header = {"env": env, "provenance": dict(provenance or {})}
        self._header = jsonio.dumps(header, indent=1) + "\n"
        self._spaces = {
            **_bounds("action", action_space),
            **_bounds("observation", check_observation_space(observation_space)),
        }
        if (self.path / HEADER).exists():
            self._check_origin(_read_header(self.path / HEADER), json.loads(self._header))
        elif is_folder(self.path):
            raise ValueError(
                f"out: {str(self.path)!r} holds npz files of unknown origin; expected a new one"
            )

    def _check_origin(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        """Refuse to add episodes to those of another task, policy or seed."""
        flat = [{"env": h.get("env"), **h.get("provenance", {})} for h in (found, wanted)]
        for name in sorted({*flat[0], *flat[1]} - set(MAY_DIFFER)):
            there, here = (origin.get(name) for origin in flat)
            if there != here:
                raise ValueError(
                    f"out: {str(self.path)!r} holds demonstrations with {name} {there!r}, got "
                    f"{here!r}; expected the same, or another folder"
                )

    @property
    def numbers(self) -> list[int]:
        """Numbers of the episodes in the folder, in order."""
        return sorted(int(place.stem.rpartition("-")[2]) for place in self.path.glob(EPISODES))

    def add(self, episode: Episode, number: int) -> None:
        """Write the episode of that number, whole or not at all."""
        if not (self.path / HEADER).exists():
            files.make_directory(self.path)
            files.write_bytes(self.path / SPACES, _pack(self._spaces))
            files.write_text(self.path / HEADER, self._header)
        observed = episode.observations
        if isinstance(observed, dict):
            arrays = {f"{OBSERVATIONS}/{key}": value for key, value in observed.items()}
        else:
            arrays = {OBSERVATIONS: observed}
        if episode.rewards is not None:
            arrays["rewards"] = episode.rewards
        arrays |= {
            "actions": episode.actions,
            "terminated": np.array(episode.terminated),
            "truncated": np.array(episode.truncated),
            **{f"{INFOS}{key}": np.asarray(value) for key, value in episode.infos.items()},
        }
        files.write_bytes(self.path / f"episode-{number:05d}.npz", _pack(arrays))


def is_folder(path: Path) -> bool:
    """Whether `read_folder` understands a path: npz files, with or without a header."""
    return path.is_dir() and bool(_episode_files(path))


def read_folder(path: str | os.PathLike[str], env: str = "") -> Demonstrations:
    """Read a folder of npz files.

    Args:
        path: the folder.
        env: Gymnasium id, for a folder without a header; without it the spaces follow the data.

    Raises:
        ValueError: one line that names the file, and the episode's step where there is one.
    """
    folder = Path(path)
    places = _episode_files(folder)
    if not places:
        raise ValueError(f"data: {folder} holds no episode, expected npz files")
    episodes = [_read_episode(place) for place in places]
    names = [str(place) for place in places]
    header = _read_header(folder / HEADER) if (folder / HEADER).exists() else {}
    if header:
        boxes = read_arrays(folder / SPACES)
        try:
            observation_space, action_space = (_boxes(boxes, k) for k in ("observation", "action"))
        except (KeyError, ValueError, AssertionError) as error:
            raise ValueError(f"{folder / SPACES}: holds no bounds of boxes ({error})") from error
    elif env:
        observation_space, action_space = env_spaces(env)
    else:
        observation_space = infer_observation_space(episodes)
        action_space = infer_action_space(episodes)
    return Demonstrations(
        episodes,
        observation_space,
        action_space,
        env=str(header.get("env") or env),
        provenance=header.get("provenance"),
        names=names,
    )


def _episode_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if path.name != SPACES)


def _read_header(path: Path) -> dict[str, Any]:
    header = jsonio.loads(read_file(path, jsonio.MAX_BYTES, follow=True), str(path))
    if not isinstance(header, dict) or not isinstance(header.get("provenance", {}), dict):
        raise ValueError(f"{path}: got {header!r:.80}, expected an object with env and provenance")
    return header


def _read_episode(path: Path) -> Episode:
    arrays = read_arrays(path)
    keyed = {
        name.partition("/")[2]: array
        for name, array in arrays.items()
        if name.startswith(f"{OBSERVATIONS}/")
    }
    observations: Observations | None = keyed or arrays.get(OBSERVATIONS)
    if observations is None or "actions" not in arrays:
        raise ValueError(
            f"{path}: got arrays {sorted(arrays)}, expected observations and actions at least"
        )
    return Episode(
        observations,
        arrays["actions"],
        arrays.get("rewards"),
        _at_end(arrays.get("terminated", False)),
        _at_end(arrays.get("truncated", False)),
        {name[len(INFOS) :]: array for name, array in arrays.items() if name.startswith(INFOS)},
    )


def _at_end(flag: Any) -> bool:
    """A flag of the episode, or the last of those of its steps."""
    return bool(np.ravel(flag)[-1:].any())


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _bounds(name: str, space: spaces.Space) -> dict[str, np.ndarray]:
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    return {
        f"{name}/{key}/{side}": getattr(box, side)
        for key, box in parts.items()
        for side in ("low", "high")
    }


def _boxes(arrays: dict[str, np.ndarray], name: str) -> spaces.Space:
    found: dict[str, spaces.Space] = {}
    for label, low in arrays.items():
        kind, _, rest = label.partition("/")
        key, _, side = rest.rpartition("/")
        if kind == name and side == "low":
            high = arrays[f"{kind}/{key}/high"]
            found[key] = spaces.Box(low, high, dtype=low.dtype.type)
    return found[""] if set(found) == {""} else spaces.Dict(found)
