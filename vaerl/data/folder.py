"""Demonstrations as a folder of npz files, one for each episode.

    demos/demonstrations.json    environment and provenance
    demos/spaces.npz             bounds of the boxes
    demos/episode-00000.npz      observations, actions, rewards, terminated, truncated, infos/<name>

Arrays of a Dict observation are named ``observations/<key>``. A folder of your own needs no more
than npz files with ``observations`` and ``actions``; files are read in the order of their names.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

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

HEADER = "demonstrations.json"
SPACES = "spaces.npz"
EPISODES = "episode-[0-9]*.npz"
OBSERVATIONS, INFOS = "observations", "infos/"
KNOWN = (OBSERVATIONS, "actions", "rewards", "terminated", "truncated")


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
        self.path = files.make_directory(path)
        header = {"env": env, "provenance": dict(provenance or {})}
        text = jsonio.dumps(header, indent=1) + "\n"
        place = self.path / HEADER
        if not place.exists():
            boxes = {
                **_bounds("action", action_space),
                **_bounds("observation", check_observation_space(observation_space)),
            }
            files.write_bytes(self.path / SPACES, _pack(boxes))
            files.write_text(place, text)
        elif place.read_text() != text:
            raise ValueError(
                f"path: {self.path} holds demonstrations of another origin "
                f"({place.read_text().strip()[:200]}); name another folder"
            )

    @property
    def numbers(self) -> list[int]:
        """Numbers of the episodes in the folder, in order."""
        return sorted(int(place.stem.rpartition("-")[2]) for place in self.path.glob(EPISODES))

    def add(self, episode: Episode, number: int) -> None:
        """Write the episode of that number, whole or not at all."""
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
    return path.is_dir() and any(path.glob("*.npz"))


def read_folder(path: str | os.PathLike[str], env: str = "") -> Demonstrations:
    """Read a folder of npz files.

    Args:
        path: the folder.
        env: Gymnasium id, for a folder without a header; without it the spaces follow the data.

    Raises:
        ValueError: one line that names the file, and the episode's step where there is one.
    """
    folder = Path(path)
    places = sorted(p for p in folder.glob("*.npz") if p.name != SPACES)
    if not places:
        raise ValueError(f"data: {folder} holds no episode, expected npz files")
    episodes = [_read_episode(place) for place in places]
    names = [str(place) for place in places]
    header: dict[str, Any] = {}
    if (folder / HEADER).exists():
        header = jsonio.loads((folder / HEADER).read_bytes(), str(folder / HEADER))
    env = str(header.get("env") or env)
    if (folder / SPACES).exists():
        boxes = _unpack(folder / SPACES)
        observation_space = _boxes(boxes, "observation")
        action_space = _boxes(boxes, "action")
    elif env:
        observation_space, action_space = env_spaces(env)
    else:
        observation_space = infer_observation_space(episodes)
        action_space = infer_action_space(episodes)
    return Demonstrations(
        episodes,
        observation_space,
        action_space,
        env=env,
        provenance=header.get("provenance"),
        names=names,
    )


def _read_episode(path: Path) -> Episode:
    arrays = _unpack(path)
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
        bool(arrays.get("terminated", False)),
        bool(arrays.get("truncated", False)),
        {name[len(INFOS) :]: array for name, array in arrays.items() if name.startswith(INFOS)},
    )


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _unpack(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, without objects, which numpy would unpickle."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable npz file of numbers ({error})") from error


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
