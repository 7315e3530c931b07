"""What `vaerl bench` writes, keeps and refuses; with rivals that take no time."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.lab.bench.fakes import put_groups
from vaerl.cli import app
from vaerl.lab.bench import GROUPS
from vaerl.lab.bench.run import bench

SECONDS = {"a": 3.0, "b": 1.5}


def read(folder: Path) -> dict:
    return json.loads((folder / "bench.json").read_text())


def test_groups_of_several_calls_are_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured again is replaced, the rest stays; each says which command made it."""
    built = put_groups(monkeypatch, SECONDS)
    bench(tmp_path, ["storage"], rounds=1, progress=False)
    assert "over 1 round of" in read(tmp_path)["caption"]
    assert read(tmp_path)["device"] == "cpu"
    assert read(tmp_path)["threads"] == torch.get_num_threads()
    bench(tmp_path, ["planning", "planning"], rounds=2, progress=False)
    assert built == ["storage", "planning"], "a name that comes twice is measured once"
    put_groups(monkeypatch, {"a": 3.0, "b": 1.0, "c": 0.5})
    bench(tmp_path, ["planning"], rounds=3, progress=False)
    record = read(tmp_path)
    assert record["speeds"] == {
        "planning": {"a": 1.0, "b": 3.0, "c": 6.0},
        "storage": {"a": 1.0, "b": 2.0},
    }
    assert [row[:2] for row in record["rows"]] == [
        ["Planning", "a"], ["", "b"], ["", "c"], ["Storage", "a"], ["", "b"]
    ]  # fmt: skip
    assert record["command"].splitlines() == [
        "vaerl bench --groups planning --rounds 3",
        "vaerl bench --groups storage --rounds 1",
    ]
    assert "over 1 to 3 rounds of" in record["caption"]


def test_every_group_is_on_disk_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_groups(monkeypatch, SECONDS)

    def broken(device: str) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(GROUPS, "storage", broken)
    with pytest.raises(RuntimeError):
        bench(tmp_path, ["planning", "storage"], rounds=1, progress=False)
    assert list(read(tmp_path)["speeds"]) == ["planning"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threads": 77}, "threads 77 then"),
        ({"device": "cuda (H)"}, r"device cuda \(H\) then, cpu now"),
        ({"versions": {"torch": "1.0"}}, "versions of vaerl: None then"),
        ({"rows": []}, "another form"),
        ({"speeds": {}}, "another form"),
        ({"measured": None}, "another form"),
    ],
)
def test_another_record_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, words: str
) -> None:
    built = put_groups(monkeypatch, SECONDS)
    bench(tmp_path, ["storage"], rounds=1, progress=False)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(read(tmp_path) | change))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"--out: got .*bench\.json, expected .*{words}"):
        bench(tmp_path, ["planning"], rounds=1, progress=False)
    assert path.read_bytes() == before and built == ["storage"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--groups", ""], "group: got ''"),
        (["--groups", ","], "group: got ''"),
        (["--groups", "actin-1-drawn"], "did you mean 'acting-1-drawn'"),
        (["--threads", "100000"], f"threads: got 100000, expected at most {os.cpu_count()}"),
        (["--profile", "--rounds", "12"], "--rounds: got it with --profile"),
        (["--profile", "--check", "x.json"], "--check: got it with --profile"),
        (["--profile", "--groups", "replay"], "got 'replay' with --profile, expected sac or ppo"),
        (["--check", "x.json", "--out", "x"], "--out: got it with --check"),
        (["--device", "tpu"], "device: got 'tpu', expected cpu, cuda or cuda:NUMBER"),
        (["--device", "cuda:99"], "device: got 'cuda:99', expected one that torch sees here: cpu"),
        (["--out", "file/inside"], "'file' is in the way"),
        (["--out", "taken"], "--out: got the folder"),
        (["--out", "foreign"], "not JSON"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "bench.json").mkdir(parents=True)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "bench.json").write_text("{")
    built = put_groups(monkeypatch, SECONDS)
    done = CliRunner().invoke(app, ["bench", "--no-progress", *words])
    assert done.exit_code == 2 and line in done.output, done.output
    assert done.output.count("\n") == 1 and not built and not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, exist_ok: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.makedirs", full)
    built = put_groups(monkeypatch, SECONDS)
    with pytest.raises(ValueError, match=r"--out: got '.*new', expected .*No space left on device"):
        bench(tmp_path / "new", ["storage"], rounds=1, progress=False)
    assert not built
