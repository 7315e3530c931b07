"""Demonstrations in and out of Minari, by its own library (extra `minari`)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.data.demonstrations import Demonstrations, Episode, Observations
from vaerl.disk import jsonio
from vaerl.disk.errors import one_line
from vaerl.disk.reading import check_tree, read_file


def is_minari(source: str) -> bool:
    """Whether a source is a Minari data set: a folder of one, or a name such as "a/b/expert-v0"."""
    path = Path(source)
    if path.exists():
        return (path / "data" / "metadata.json").exists()
    return source.startswith("minari:")


def read_minari(source: str) -> Demonstrations:
    """Read a data set from its folder, or by name ("minari:D4RL/door/human-v2").

    Nothing is downloaded and no environment is made.

    Raises:
        ValueError: no such data set on this machine, or one without Box observations and actions.
    """
    minari = _library()
    name = source.removeprefix("minari:")
    place = Path(name) if Path(name).exists() else Path(minari.storage.get_dataset_path(name))
    _check_metadata(place / "data", source)
    try:
        check_tree(place / "data")
        data = minari.MinariDataset(place / "data")
        numbers = [int(number) for number in data.episode_indices]
    except Exception as error:  # the library asserts, and fails in any way on damaged files
        reason = one_line(f"{type(error).__name__}: {error}", 160)
        raise ValueError(f"data: {source!r} is no readable Minari data set ({reason})") from error
    episodes = [_read_episode(data, number, f"{source}, episode {number}") for number in numbers]
    spec = data.spec.env_spec
    return Demonstrations(
        episodes,
        data.spec.observation_space,
        data.spec.action_space,
        env="" if spec is None else str(spec.id),
        provenance={"minari": data.spec.dataset_id},
        names=[f"{source}, episode {number}" for number in numbers],
    )


def _check_metadata(folder: Path, source: str) -> None:
    """Refuse metadata without spaces: Minari would make the environment that they name.

    That imports and calls whatever the file says.
    """
    place = folder / "metadata.json"
    if not place.is_file():
        raise ValueError(f"data: {source!r} is not a Minari data set here: no file {str(place)!r}")
    metadata = jsonio.loads(read_file(place, jsonio.MAX_BYTES, follow=True), str(place))
    spaces = ("observation_space", "action_space")
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(k), str) for k in spaces):
        raise ValueError(f"{place}: got no {' and no '.join(spaces)}, expected both as texts")


def _read_episode(data: Any, number: int, name: str) -> Episode:
    try:
        episode = data[number]
        return Episode(
            _rows(episode.observations),
            np.asarray(episode.actions),
            np.asarray(episode.rewards),
            bool(np.ravel(episode.terminations)[-1:].any()),
            bool(np.ravel(episode.truncations)[-1:].any()),
            _flat_infos(episode.infos or {}, len(episode.rewards)),
        )
    except Exception as error:  # a damaged file fails in any way
        reason = one_line(f"{type(error).__name__}: {error}", 160)
        raise ValueError(f"{name}: cannot be read ({reason})") from error


def write_minari(demonstrations: Demonstrations, name: str) -> None:
    """Write a data set of that name, such as "me/avoiding/expert-v0", to Minari's local store.

    Raises ValueError if the name is taken, is not legal, or an episode lacks its last observation.
    """
    minari = _library()
    buffers = []
    for i, episode in enumerate(demonstrations):
        if not episode.complete:
            raise ValueError(
                f"episode {i}: got {len(episode)} observations for {len(episode)} actions, Minari "
                f"needs one more"
            )
        ends = np.zeros((2, len(episode)), dtype=bool)
        ends[:, -1] = episode.terminated, episode.truncated
        assert episode.rewards is not None, "checked demonstrations have rewards"
        infos = {  # Minari keeps one row more, that of the reset
            key: np.concatenate([value[:1], value]) for key, value in episode.infos.items()
        }
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=i,
                observations=episode.observations,
                actions=episode.actions,
                rewards=list(episode.rewards),
                terminations=list(ends[0]),
                truncations=list(ends[1]),
                infos=infos or None,
            )
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="minari")  # about author, licence and the like
            minari.create_dataset_from_buffers(
                name,
                buffers,
                env=demonstrations.env or None,
                observation_space=demonstrations.observation_space,
                action_space=demonstrations.action_space,
                description=jsonio.dumps(demonstrations.provenance),
            )
    except (ValueError, AssertionError) as error:
        raise ValueError(f"name: {name!r} cannot be written ({error})") from error


def check_new_name(name: str) -> None:
    """Raise a ValueError of one line unless a data set of that name can be written."""
    minari = _library()
    try:
        minari.dataset.minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"to: got {name!r}, expected a name of Minari's such as me/demos-v0"
        ) from error
    if name in minari.list_local_datasets():
        raise ValueError(f"to: Minari holds {name!r} already, expected a name that is not taken")


def _library() -> Any:
    try:
        import minari
        import minari.data_collector
    except ImportError as error:
        raise ValueError(
            f"data: Minari needs its library ({error}): pip install 'vaerl[minari]'"
        ) from error
    return minari


def _rows(observations: Any) -> Observations:
    if isinstance(observations, dict):
        return {key: np.asarray(value) for key, value in observations.items()}
    return np.asarray(observations)


def _flat_infos(infos: dict[str, Any], steps: int) -> dict[str, np.ndarray]:
    """The numeric infos of each step; Minari's first row, that of the reset, is left out."""
    arrays = {key: np.asarray(value) for key, value in infos.items() if not isinstance(value, dict)}
    return {
        key: array[-steps:]
        for key, array in arrays.items()
        if array.dtype.kind in "fiub" and array.ndim and len(array) in (steps, steps + 1)
    }
