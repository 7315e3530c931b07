"""The benchmark times in turns, compares within a round, and says what it measures where."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import vaerl.lab.bench
from tests.lab.bench.fakes import Clock, result_of
from vaerl.cli import app
from vaerl.lab.bench import GROUPS, Goal, Group, Limit, group_names, groups, measure
from vaerl.lab.bench.check import compare
from vaerl.lab.bench.groups import CVAE, SB3
from vaerl.lab.bench.record import block, record, setting
from vaerl.lab.bench.timing import check_device, device_clock

RESULTS = Path(vaerl.lab.bench.__file__).parent / "results"


def test_ratios_survive_a_machine_that_slows_down() -> None:
    clock = Clock()
    group = Group("g", "", "step", [clock.case("a", 6.0), clock.case("b", 2.0, 5)])

    def on_round(done: int) -> None:
        clock.slow = 10.0 if done > 3 else 1.0

    result = measure(group, 6, warm_up=1, on_round=on_round, clock=clock)
    assert clock.order == "abba" * 3 + "ab", "the first place goes round"
    assert result.seconds["a"] == pytest.approx([6.0] * 3 + [60.0] * 3)
    assert result.speed("b") == pytest.approx((3.0, 3.0, 3.0))
    assert result.speed("a", "b")[0] == pytest.approx(1 / 3)
    assert result.milliseconds("b") == pytest.approx(11_000.0), "the median of 2 and 20 s"


def test_the_record_says_which_goals_are_reached() -> None:
    goals = [Goal("b", "a", 2.0), Goal("c", "a", 2.0), Goal("c", "b", 0.1), Limit("c", 1999.0)]
    made = block(result_of({"a": 3.0, "b": 1.5, "c": 2.0}, goals), "vaerl bench", 1)
    table = record({"g": made}, setting())
    a, b, c = table["rows"]
    assert a[:2] == ["Title", "a"] and a[4] == "1" and a[5:] == ["", ""]
    assert b[5:] == ["≥ 2", "yes, 2.00"]
    assert c[5:] == ["≥ 2; ≥ 0.1 × b; ≤ 1999 ms", "no, 1.50; yes, 0.75; no, 2000 ms"]
    assert table["speeds"] == {"g": {"a": 1.0, "b": 2.0, "c": 1.5}}


def test_a_command(tmp_path: Path) -> None:
    words = ["bench", "--groups", "acting-1-drawn", "--rounds", "1", "--no-progress"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["command"] == "vaerl bench --groups acting-1-drawn --rounds 1"
    assert set(written["speeds"]["acting-1-drawn"]) >= {"SB3 gaussian", CVAE}


def test_start_up_is_measured_with_what_is_loaded_later() -> None:
    """An import that only makes names is no rival to one that loads everything."""
    group = GROUPS["imports"]("cpu")
    assert Goal("from vaerl.agents import SAC", "from stable_baselines3 import SAC", 1 / 1.2) in (
        group.goals
    )
    assert Limit("vaerl --help", 500.0) in group.goals
    cases = {case.name for case in group.cases}
    assert {goal.case for goal in group.goals} <= cases
    assert {goal.against for goal in group.goals if isinstance(goal, Goal)} <= cases


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


def test_agents_and_models_live_where_they_are_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The goal of a GPU is there only on one."""
    asked: list[str] = []

    def agents(device: str, **_: object) -> tuple[dict[str, object], dict[str, str]]:
        asked.append(device)
        return {SB3: object(), CVAE: object()}, {}

    monkeypatch.setattr(groups, "_off_policy", agents)
    assert list(GROUPS["update"]("cpu").goals) == []
    assert list(GROUPS["update"]("cuda").goals) == [Goal(CVAE, SB3, 5.0)]
    assert asked == ["cpu", "cuda"]
    for device in ("cpu", "meta"):
        case = GROUPS["dynamics-gaussian"](device).cases[1]
        (model,) = inspect.getclosurevars(case.work).nonlocals["models"]
        assert model.elites.device.type == device


def test_sbx_takes_part_on_the_same_kind_of_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sbx", SimpleNamespace(SAC="theirs"))
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(default_backend=lambda: "cpu"))
    assert groups._sbx_sac("cpu") == "theirs"
    with pytest.raises(ImportError, match="jax would run it on cpu, not on gpu"):
        groups._sbx_sac("cuda")


@pytest.mark.slow
@pytest.mark.parametrize("group", ["update", "acting-1-drawn"])
def test_speeds_are_not_far_below_the_recorded_ones(group: str) -> None:
    recorded = json.loads((RESULTS / "bench.json").read_text())["speeds"]
    assert set(recorded) == set(group_names())
    speeds = recorded[group]
    result = measure(GROUPS[group]("cpu").only(speeds), 3)
    assert compare([result], {group: speeds}) == (len(speeds) - 1, [])
