"""Demonstrations come back as they were written, and faults are one line that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer

from vaerl.data import (
    Demonstrations,
    Episode,
    collect,
    from_replay_buffer,
    load_demonstrations,
    read_folder,
    write_folder,
)

BOX = spaces.Box(-1.0, 1.0, (2,))
DICT = spaces.Dict({"place": spaces.Box(-2.0, 2.0, (3,)), "goal": BOX})


def episode(steps: int = 3, seed: int = 0, **changes: Any) -> Episode:
    rng = np.random.default_rng(seed)
    data = {
        "observations": rng.uniform(-1, 1, (steps + 1, 2)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        "rewards": rng.normal(size=steps),
        "terminated": True,
        "infos": {"success": np.array([0.0] * (steps - 1) + [1.0])},
    }
    return Episode(**(data | changes))


def dict_episode(steps: int = 3) -> Episode:
    rng = np.random.default_rng(steps)
    return episode(
        steps,
        observations={
            "place": rng.uniform(-2, 2, (steps + 1, 3)).astype(np.float32),
            "goal": rng.uniform(-1, 1, (steps + 1, 2)).astype(np.float32),
        },
    )


def same(a: Demonstrations, b: Demonstrations) -> None:
    assert len(a) == len(b)
    assert (a.observation_space, a.action_space) == (b.observation_space, b.action_space)
    for one, other in zip(a, b, strict=True):
        assert (one.terminated, one.truncated) == (other.terminated, other.truncated)
        first, second = (
            e.observations if isinstance(e.observations, dict) else {"": e.observations}
            for e in (one, other)
        )
        for name, left, right in [
            ("actions", one.actions, other.actions),
            ("rewards", one.rewards, other.rewards),
            *((key, first[key], second[key]) for key in first),
            *((key, one.infos[key], other.infos[key]) for key in one.infos),
        ]:
            np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.mark.parametrize("kind", ["box", "dict"])
def test_npz_folders_give_back_what_was_written(tmp_path: Path, kind: str) -> None:
    space, make = (BOX, episode) if kind == "box" else (DICT, dict_episode)
    written = Demonstrations([make(2), make(5)], space, BOX, env="a/B-v0", provenance={"by": "me"})
    write_folder(written, tmp_path / "demos")
    read = load_demonstrations(tmp_path / "demos")
    same(written, read)
    assert (read.env, read.provenance) == ("a/B-v0", {"by": "me"})
    with pytest.raises(ValueError, match="expected an empty folder"):
        write_folder(written, tmp_path / "demos")


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("kind", ["box", "dict"])
def test_minari_gives_back_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pytest.importorskip("minari")
    from vaerl.data import write_minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    space, make = (BOX, episode) if kind == "box" else (DICT, dict_episode)
    written = Demonstrations([make(2), make(5)], space, BOX)
    write_minari(written, "me/test-v0")
    same(written, load_demonstrations("minari:me/test-v0"))
    same(written, load_demonstrations(tmp_path / "me" / "test-v0"))


def test_lerobot_tables_are_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(json.dumps({"robot_type": "arm", "fps": 10}))
    (tmp_path / "data" / "chunk-000").mkdir(parents=True)
    rows = [(0, 0.1), (0, 0.2), (1, 0.3), (1, 0.4), (1, 0.5)]
    table = pa.table(
        {
            "episode_index": [index for index, _ in rows],
            "action": [[value, -value] for _, value in rows],
            "observation.state": [[value, 2.0, 3.0] for _, value in rows],
            "next.done": [False, True, False, False, True],
            "task": ["words"] * 5,
        }
    )
    parquet.write_table(table, tmp_path / "data" / "chunk-000" / "file-000.parquet")
    demonstrations = load_demonstrations(tmp_path)
    assert [len(e) for e in demonstrations] == [2, 3]
    assert demonstrations[1].terminated and demonstrations.provenance["fps"] == 10
    np.testing.assert_allclose(demonstrations[1].actions[:, 0], [0.3, 0.4, 0.5], rtol=1e-6)
    assert demonstrations.observation_space.shape == (3,)


def test_a_replay_buffer_gives_its_episodes() -> None:
    """Actions come back in units of the box; what the ring cuts off or still runs is truncated."""
    env = gymnasium.make("Pendulum-v1", max_episode_steps=30)
    agent = SAC("MlpPolicy", env, learning_starts=1000, buffer_size=80, seed=0)
    agent.learn(100)
    demonstrations = from_replay_buffer(agent.replay_buffer, env="Pendulum-v1")
    assert [len(e) for e in demonstrations] == [10, 30, 30, 10]
    assert all(e.truncated and not e.terminated for e in demonstrations)
    torque = np.concatenate([e.actions for e in demonstrations])
    assert 1.0 < np.abs(torque).max() <= 2.0
    theta = demonstrations[1].observations
    assert isinstance(theta, np.ndarray)
    np.testing.assert_allclose(np.hypot(theta[:, 0], theta[:, 1]), 1.0, rtol=1e-5)
    small = ReplayBuffer(10, BOX, BOX)
    with pytest.raises(ValueError, match="empty replay buffer"):
        from_replay_buffer(small)


def test_collecting_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    """Episodes have seeds of their own, so one folder in two calls equals another in one call."""

    def policy(rng: np.random.Generator, env: gymnasium.Env) -> Any:
        return lambda observation: rng.uniform(-2.0, 2.0, 1)

    def short(e: Episode) -> bool:
        return float(e.observations[0, 0]) > 0  # type: ignore[call-overload]

    options = {"env": "Pendulum-v1", "env_options": {"max_episode_steps": 5}, "keep": short}
    whole = collect(policy=policy, episodes=4, **options)  # type: ignore[arg-type]
    for count in (2, 4):
        again = collect(policy=policy, episodes=count, out=tmp_path / "d", **options)  # type: ignore[arg-type]
    same(whole, again)
    with pytest.raises(ValueError, match="with seed 0, got 1"):
        collect(policy=policy, episodes=5, out=tmp_path / "d", seed=1, **options)  # type: ignore[arg-type]


def test_an_agent_with_predict_collects() -> None:
    agent = SAC("MlpPolicy", gymnasium.make("Pendulum-v1", max_episode_steps=4), buffer_size=10)
    found = collect("Pendulum-v1", agent, 2, env_options={"max_episode_steps": 4})
    assert [len(e) for e in found] == [4, 4] and found[0].truncated


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"actions": np.zeros((0, 2))}, "episode 1: got no step"),
        ({"actions": np.full((3, 2), 1.5)}, r"episode 1, step 0: got the action \[1.5, 1.5\]"),
        ({"actions": np.zeros((3, 3))}, r"episode 1: actions: got shape \(3, 3\)"),
        ({"observations": np.zeros((9, 2))}, r"expected \(4, 2\) or \(3, 2\)"),
        ({"observations": np.full((4, 2), np.nan)}, "observations: step 0 holds NaN"),
        ({"rewards": np.array([0.0, np.inf, 0.0])}, "rewards: step 1 holds NaN"),
        ({"observations": [[1.0], [2.0, 3.0]]}, "."),
        ({"observations": {"a": np.zeros((4, 2))}}, "expected one array"),
    ],
)
def test_faulty_episodes_are_named(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Demonstrations([episode(), episode(**changes)], BOX, BOX)


def test_objects_in_npz_are_not_unpickled(tmp_path: Path) -> None:
    """numpy stores objects as pickles; such a file is refused by name."""
    place = tmp_path / "evil.npz"
    np.savez(place, observations=np.array([object()]), actions=np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"evil\.npz: not a readable npz file"):
        read_folder(tmp_path)
    place.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"evil\.npz: not a readable npz file"):
        read_folder(tmp_path)


def test_arrays_of_ones_own_need_no_environment() -> None:
    data = Demonstrations.from_arrays([np.zeros((4, 2))], [np.array([[0.0], [2.0], [1.0]])])
    assert isinstance(data.action_space, spaces.Box)
    assert (data.action_space.low, data.action_space.high) == (0.0, 2.0)
    kept, held = Demonstrations([episode(seed=i) for i in range(10)], BOX, BOX).split(0.2)
    assert (len(kept), held and len(held)) == (8, 2)
