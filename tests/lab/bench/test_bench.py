"""The benchmark times in turns, compares within a round, and keeps a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from vaerl.cli import app
from vaerl.lab.bench import GROUPS, Case, Goal, Group, measure, run
from vaerl.lab.bench.rivals import CVAE, SB3
from vaerl.lab.bench.run import bench
from vaerl.lab.bench.timing import check_device, device_clock


class Clock:
    """A clock that cases move; `slow` times slower at will."""

    def __init__(self) -> None:
        self.now, self.slow, self.order = 0.0, 1.0, ""

    def __call__(self) -> float:
        return self.now

    def case(self, name: str, seconds: float, units: int = 1) -> Case:
        def work() -> None:
            self.order += name
            self.now += seconds * units * self.slow

        return Case(name, work, units)


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of the rivals of every group, which a test may change; measuring takes no time."""
    seconds, clock = {"a": 3.0, "b": 1.5}, Clock()

    def make(name: str) -> Group:
        cases = [clock.case(rival, took) for rival, took in seconds.items()]
        return Group(name, name, "step", cases, [Goal("b", 1.9, "a"), Goal("b", 1000.0)])

    for name in GROUPS:
        monkeypatch.setitem(GROUPS, name, lambda device, name=name: make(name))
    monkeypatch.setattr(run, "device_clock", lambda device: clock)
    return seconds


def read(folder: Path) -> Any:
    return json.loads((folder / "bench.json").read_text())


def test_ratios_survive_a_machine_that_slows_down() -> None:
    clock = Clock()
    group = Group("g", "", "step", [clock.case("a", 6.0), clock.case("b", 2.0, 5)])

    def on_round(done: int) -> None:
        clock.slow = 10.0 if done > 3 else 1.0

    result = measure(group, 6, on_round=on_round, clock=clock)
    assert clock.order == "abba" * 3 + "ab", "the first place goes round"
    assert result.seconds["a"] == pytest.approx([6.0] * 3 + [60.0] * 3)
    assert result.speed("b") == pytest.approx((3.0, 3.0, 3.0))
    assert result.speed("a", "b")[0] == pytest.approx(1 / 3)
    assert result.milliseconds("b") == pytest.approx(11_000.0), "the median of 2 and 20 s"


def test_a_record_grows_group_by_group(tmp_path: Path, rivals: dict[str, float]) -> None:
    """Groups that are measured again are replaced, and a record of another setting is kept."""
    bench(tmp_path, ["planning", "storage"], rounds=1, progress=False)
    rivals["b"] = 1.0
    bench(tmp_path, ["planning"], rounds=2, progress=False)
    table = read(tmp_path)
    assert list(table["groups"]) == ["planning", "storage"]
    assert [row[4] for row in table["rows"]] == ["1", "3.00 (3.00–3.00)", "1", "2.00 (2.00–2.00)"]
    assert table["rows"][1][5:] == ["≥ 1.9 × a; ≤ 1000 ms", "yes, 3.00; yes, 1000 ms"]
    assert table["groups"]["planning"]["command"] == "vaerl bench --groups planning --rounds 2"
    (tmp_path / "bench.json").write_text(json.dumps({**table, "threads": 77}))
    with pytest.raises(ValueError, match="measured with other threads; move it away"):
        bench(tmp_path, ["planning"], rounds=1, progress=False)
    assert read(tmp_path)["threads"] == 77


def test_a_check_names_what_became_slower(tmp_path: Path, rivals: dict[str, float]) -> None:
    bench(tmp_path, ["planning", "storage"], rounds=1, progress=False)
    before = (tmp_path / "bench.json").read_bytes()
    assert bench(check=tmp_path / "bench.json", rounds=1, progress=False) == []
    rivals["b"] = 3.1
    lines = bench(groups=["storage"], check=tmp_path / "bench.json", rounds=1, progress=False)
    assert lines == ["storage: b is 0.97 times as fast as a, recorded 2.00, expected at least 1.00"]
    assert (tmp_path / "bench.json").read_bytes() == before
    with pytest.raises(ValueError, match="'sac'"):
        bench(groups=["sac"], check=tmp_path / "bench.json", rounds=1, progress=False)
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"expected a bench\.json that `vaerl bench` wrote"):
        bench(check=tmp_path / "other.json", progress=False)


def test_the_command_measures_for_real(tmp_path: Path) -> None:
    words = ["bench", "--groups", "acting-1-drawn", "--rounds", "1", "--no-progress"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert {SB3, CVAE} <= {row[1] for row in read(tmp_path)["rows"]}


def test_a_gpu_is_waited_for_before_a_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    device_clock("cpu")()
    assert waited == []
    clock = device_clock("cuda:1")
    assert clock() <= clock() and waited == ["cuda:1"] * 2


def test_devices_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [check_device(d) for d in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    with pytest.raises(ValueError, match=r"got 'cuda:2', expected .*: cpu, cuda:0, cuda:1"):
        check_device("cuda:2")
