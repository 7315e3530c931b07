"""Faulty data of every source is refused in one line that says where; no file runs code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from tests.data.test_data import BOX, DICT, episode, same
from tests.runs.test_drivers import Poison
from vaerl.data import Demonstrations, collect, load_demonstrations, write_folder

GOOD = {"observations": np.zeros((3, 2)), "actions": np.zeros((2, 2))}
ENV = "vaerl/Avoiding-v0"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"actions": np.zeros((0, 2))}, r"b\.npz: got no step"),
        ({"actions": np.float64(1.0)}, r"b\.npz: got no step"),
        ({"actions": np.zeros((2, 3))}, r"b\.npz: actions: got shape \(2, 3\)"),
        ({"actions": np.array(["go", "on"])}, r"b\.npz: actions: got <U2 values"),
        ({"actions": np.full((2, 2), np.nan)}, r"b\.npz: actions: step 0 holds NaN"),
        ({"actions": np.array([[0.0, 0], [0, 3]])}, r"b\.npz, step 1: got the action \[0.0, 3.0\]"),
        ({"observations": np.zeros((7, 2))}, r"b\.npz: observations: got shape \(7, 2\)"),
        ({"rewards": np.zeros(5)}, r"b\.npz: rewards: got shape \(5,\)"),
        ({"infos/success": np.float64(1.0)}, r"b\.npz: infos\['success'\]: got float64 values of"),
        ({"observations": None}, r"b\.npz: got arrays \['actions'\], expected observations and"),
        ({"observations": np.array([Poison(Path("ran"))])}, r"b\.npz: not a readable npz file"),
        ({"infos/why": np.array([{}, {}])}, r"b\.npz: not a readable npz file"),
    ],
)
def test_a_faulty_npz_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], line: str
) -> None:
    """An object array is a pickle within the file."""
    monkeypatch.chdir(tmp_path)
    write_folder(Demonstrations([episode(2)], BOX, BOX), "d")
    arrays = {name: a for name, a in (GOOD | changes).items() if a is not None}
    np.savez("d/b.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=line) as caught:
        load_demonstrations("d")
    assert "\n" not in str(caught.value) and not Path("ran").exists()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("demonstrations.json", "{", r"demonstrations\.json: not JSON"),
        ("demonstrations.json", "[]", r"demonstrations\.json: got \[\], expected an object"),
        ("spaces.npz", "PK", r"spaces\.npz: not a readable npz file"),
        ("episode-00000.npz", "PK", r"episode-00000\.npz: not a readable npz file"),
    ],
)
def test_damaged_files_of_a_folder_are_named(
    tmp_path: Path, name: str, text: str, line: str
) -> None:
    write_folder(Demonstrations([episode(2)], BOX, BOX), tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=line):
        load_demonstrations(tmp_path)


def test_every_byte_of_an_episode_counts(tmp_path: Path) -> None:
    """A file that is cut or changed anywhere is refused or gives the same numbers."""
    whole = Demonstrations([episode(2)], BOX, BOX)
    write_folder(whole, tmp_path)
    place = tmp_path / "episode-00000.npz"
    data = place.read_bytes()
    for at in range(0, len(data), 97):
        for broken in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
            place.write_bytes(broken)
            try:
                found = load_demonstrations(tmp_path)
            except ValueError as error:
                assert "episode-00000.npz" in str(error) and "\n" not in str(error)
            else:
                np.testing.assert_array_equal(found[0].actions, whole[0].actions)


@pytest.fixture
def minari_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("minari")
    from vaerl.data import write_minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_minari(Demonstrations([episode(2), episode(4)], BOX, BOX), "me/test-v0")
    return tmp_path / "me" / "test-v0"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (np.full((4, 2), np.inf), "episode 1: actions: step 0 holds NaN or infinity"),
        (np.full((4, 2), 1.5), r"episode 1, step 0: got the action \[1.5, 1.5\]"),
        (np.zeros((3, 2)), r"episode 1: observations: got shape \(5, 2\), expected \(4, 2\) or"),
        (np.zeros((0, 2)), "episode 1: got no step"),
        (None, "episode 1: cannot be read"),
    ],
)
def test_a_faulty_episode_of_minari_is_named(minari_set: Path, values: Any, line: str) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(minari_set / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/actions"]
        if values is not None:
            file["episode_1/actions"] = values
    with pytest.raises(ValueError, match=line) as caught:
        load_demonstrations("minari:me/test-v0")
    assert "\n" not in str(caught.value)


def test_metadata_of_minari_runs_no_code(minari_set: Path, tmp_path: Path) -> None:
    """Without spaces Minari makes the environment that the file names, by calling anything."""
    import minari

    place = minari_set / "data" / "metadata.json"
    metadata = json.loads(place.read_text())
    spaces = metadata.pop("observation_space")
    spec = {
        "id": "x-v0",
        "entry_point": "tests.data.test_faults:leave",
        "kwargs": {"place": str(tmp_path / "ran")},
    }
    metadata["env_spec"] = json.dumps(
        {**spec, "additional_wrappers": [], "vector_entry_point": None}
    )
    place.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"metadata\.json: got no observation_space"):
        load_demonstrations(minari_set)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(Exception):  # noqa: B017  (whatever the library makes of it)
        minari.MinariDataset(minari_set / "data")
    assert (tmp_path / "ran").exists(), "the poison works where it is not refused"
    (tmp_path / "ran").unlink()
    place.write_text(json.dumps(metadata | {"observation_space": spaces}))
    assert len(load_demonstrations(minari_set)) == 2 and not (tmp_path / "ran").exists()


def leave(place: str, **_: Any) -> None:
    """Leave a file behind, as harmful code would."""
    Path(place).touch()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("metadata.json", "{", r"metadata\.json: not JSON"),
        ("main_data.hdf5", "HDF", "test-v0, episode 0: cannot be read"),
    ],
)
def test_damaged_files_of_minari_are_named(
    minari_set: Path, name: str, text: str, line: str
) -> None:
    (minari_set / "data" / name).write_text(text)
    with pytest.raises(ValueError, match=line):
        load_demonstrations(minari_set)
    with pytest.raises(ValueError, match="'minari:me/none-v0' is not a Minari data set here"):
        load_demonstrations("minari:me/none-v0")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"action": [[0.0], [None], [0.0]]}, "episode 4: actions: step 1 holds NaN"),
        ({"action": [[0.0], [0.0], [0.0, 1.0]]}, "episode 4, step 2: got 2 numbers, expected 1"),
        ({"action": [[0.0], None, [0.0]]}, "episode 4, step 1: got None numbers, expected 1"),
        ({"action": ["go", "on", "up"]}, "expected action, episode_index and at least one"),
        ({"action": None}, r"got the columns \['episode_index', 'observation.state'\], expected"),
        ({"observation.state": [1.0, float("inf"), 2.0]}, "observations: step 1 holds NaN or inf"),
    ],
)
def test_a_faulty_table_of_lerobot_is_named(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    (tmp_path / "data").mkdir()
    columns = {
        "episode_index": [4, 4, 4],
        "action": [[0.0], [0.5], [1.0]],
        "observation.state": [1.0, 2.0, 3.0],
    } | changes
    kept = {name: column for name, column in columns.items() if column is not None}
    place = tmp_path / "data" / "file-000.parquet"
    parquet.write_table(pa.table(kept), place)
    with pytest.raises(ValueError, match=line) as caught:
        load_demonstrations(tmp_path)
    assert str(place) in str(caught.value) and "\n" not in str(caught.value)
    place.write_bytes(place.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"file-000\.parquet: not a readable parquet file"):
        load_demonstrations(tmp_path)
    place.unlink()
    with pytest.raises(ValueError, match="holds no episode"):
        load_demonstrations(tmp_path)


def test_frames_of_lerobot_are_put_in_order_and_no_episode_is_mixed(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    (tmp_path / "data").mkdir()
    columns = {
        "episode_index": [1, 0, 1],
        "frame_index": [1, 0, 0],
        "action": [0.3, 0.1, 0.2],
        "observation.state": [3.0, 1.0, 2.0],
    }
    parquet.write_table(pa.table(columns), tmp_path / "data" / "a.parquet")
    found = load_demonstrations(tmp_path)
    np.testing.assert_allclose(found[1].actions, [0.2, 0.3], rtol=1e-6)
    parquet.write_table(pa.table(columns), tmp_path / "data" / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet, episode 1: stands in .*a\.parquet"):
        load_demonstrations(tmp_path)


@pytest.mark.parametrize("kind", ["box", "dict"])
def test_faults_in_a_replay_buffer_are_named(kind: str) -> None:
    buffer: Any = ReplayBuffer(10, BOX, BOX) if kind == "box" else DictReplayBuffer(10, DICT, BOX)
    seen: Any = (
        np.zeros((1, 2)) if kind == "box" else {"place": np.zeros((1, 3)), "goal": np.zeros((1, 2))}
    )
    for step in range(4):
        action = np.full((1, 2), 0.1 * step)
        buffer.add(seen, seen, action, np.zeros(1), np.array([step % 2 == 1]), [{}])
    assert [len(e) for e in load_demonstrations(buffer)] == [2, 2]
    buffer.rewards[2] = np.nan
    with pytest.raises(ValueError, match="replay buffer, episode 1: rewards: step 0 holds NaN"):
        load_demonstrations(buffer)
    buffer.rewards[2], buffer.actions[3] = 0.0, 2.0
    with pytest.raises(ValueError, match="replay buffer, episode 1, step 1: got the action"):
        load_demonstrations(buffer)


def test_pickles_are_refused_and_the_way_is_named(tmp_path: Path) -> None:
    place = tmp_path / "buffer.pkl"
    place.write_bytes(pickle.dumps(Poison(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"buffer\.pkl' is a file, .* pass the buffer itself, or"):
        load_demonstrations(place)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="data: got 42, expected demonstrations, a replay buffer"):
        load_demonstrations(42)
    with pytest.raises(ValueError, match=r"data: got \[array") as caught:
        load_demonstrations([np.zeros((3, 2))])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="demonstrations: got no episode"):
        Demonstrations.from_arrays([], [])


def test_ragged_arrays_of_ones_own_are_named() -> None:
    with pytest.raises(ValueError, match=r"episode 1: observations: got rows of .1, 2. numbers"):
        Demonstrations.from_arrays([np.zeros((2, 1)), [[1.0], [1.0, 2.0]]], [[[0.0]], [[0.0]]])


@pytest.mark.parametrize(
    ("actions", "line"),
    [
        ([np.zeros((2, 1)), np.zeros((2, 2))], r"episode 1: actions: got shape \(2, 2\)"),
        ([np.zeros((2, 1)), np.full((2, 1), np.nan)], "episode 1: actions: step 0 holds NaN"),
        ([np.zeros((0, 1)), np.zeros((2, 1))], "episode 0: got no step"),
        ([np.zeros((2, 1)), [["a"], ["b"]]], "episode 1: actions: got <U1 values"),
    ],
)
def test_faults_are_named_where_the_box_follows_the_data(actions: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Demonstrations.from_arrays([np.zeros((2, 1)), np.zeros((2, 1))], actions)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ("CartPole-v1", r"action_space: got Discrete\(2\), expected a Box of floats"),
        ("FrozenLake-v1", r"observation_space: got Discrete\(16\), expected a Box or a Dict"),
    ],
)
def test_spaces_that_cannot_be_recorded_are_refused_first(
    tmp_path: Path, env: str, line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        collect(env, "random", 1, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "episode-00000.npz", **GOOD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds npz files of unknown origin"):
        collect(ENV, "expert", 2, out=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_files_are_read_as_they_were_written_after_all_this(tmp_path: Path) -> None:
    whole = collect(ENV, "expert", 2, out=tmp_path / "d")
    same(whole, load_demonstrations(tmp_path / "d"))
