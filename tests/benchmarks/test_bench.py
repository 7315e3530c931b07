"""The benchmark times in turns, compares within a round, and notices what has become slower."""

from __future__ import annotations

import inspect
import itertools
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vaerl.benchmarks import GROUPS, Case, Goal, Group, Result, group_names, measure
from vaerl.benchmarks.groups import CVAE, GAUSSIAN, OPTIONS
from vaerl.benchmarks.profile import REST, profile, profile_record
from vaerl.benchmarks.record import read_speeds, record, regressions
from vaerl.cli import app

DOCS = Path(__file__).parents[2] / "docs" / "results"


class Clock:
    """A clock that cases move; the machine becomes ten times slower halfway."""

    def __init__(self) -> None:
        self.now, self.slow, self.order = 0.0, 1.0, ""

    def case(self, name: str, seconds: float, units: int = 1) -> Case:
        def work() -> float:
            self.order += name
            self.now += seconds * units * self.slow
            return units

        return Case(name, work)


def test_ratios_survive_a_machine_that_slows_down() -> None:
    clock = Clock()
    group = Group("g", "", "step", [clock.case("a", 6.0), clock.case("b", 2.0, 5)])

    def on_round(done: int) -> None:
        clock.slow = 10.0 if done > 3 else 1.0

    result = measure(group, 6, warm_up=1, on_round=on_round, clock=lambda: clock.now)
    assert clock.order == "abba" * 3 + "ab", "the first place goes round"
    assert result.seconds["a"] == pytest.approx([6.0] * 3 + [60.0] * 3)
    assert result.speed("b") == pytest.approx((3.0, 3.0, 3.0))
    assert result.speed("a", "b")[0] == pytest.approx(1 / 3)
    assert result.milliseconds("b") == pytest.approx(11_000.0), "the median of 2 and 20 s"


def result_of(seconds: dict[str, float], goals: list[Goal] | None = None) -> Result:
    group = Group("g", "Title", "step", [Case(n, lambda: 1.0) for n in seconds], goals or [])
    return Result(group, {name: [value] for name, value in seconds.items()})


def test_the_record_says_which_goals_are_reached() -> None:
    goals = [Goal("b", "a", 2.0), Goal("c", "a", 2.0), Goal("c", "b", 0.1)]
    table = record([result_of({"a": 3.0, "b": 1.5, "c": 2.0}, goals)], "vaerl bench", 1)
    a, b, c = table["rows"]
    assert a[:2] == ["Title", "a"] and a[4] == "1" and a[5:] == ["", ""]
    assert b[5:] == ["≥ 2", "yes, 2.00"]
    assert c[5:] == ["≥ 2; ≥ 0.1 × b", "no, 1.50; yes, 0.75"]
    assert table["speeds"] == {"g": {"a": 1.0, "b": 2.0, "c": 1.5}}


def test_a_slower_rival_is_noticed() -> None:
    now = [result_of({"a": 3.0, "b": 1.5})]
    assert regressions(now, {"g": {"a": 1.0, "b": 3.9, "gone": 9.0}, "other": {"x": 1.0}}) == []
    (line,) = regressions(now, {"g": {"b": 4.1}})
    assert "b is 2.00 times as fast as a, recorded 4.10, expected at least 2.05" in line


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("", "[]", '{"speeds": 3}', '{"speeds": {"a": {"b": "c"}}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"--check: got .*x\.json, expected a bench\.json"):
            read_speeds(path)


def test_a_profile_adds_up_and_counts_the_arithmetic() -> None:
    parts = profile(GAUSSIAN, updates=3)
    whole = parts.pop("whole update")
    for key, total in whole.items():
        assert sum(part[key] for part in parts.values()) == pytest.approx(total), key
    rows, width, seen = 256, 256, 17 + 6
    forward = 2e-9 * rows * 2 * (seen * width + width * width + width)  # both critics
    assert parts["target critics"]["gflop"] == pytest.approx(forward)
    assert parts["critics: loss and gradient"]["gflop"] == pytest.approx(
        forward + 2e-9 * rows * 2 * (seen * width + 2 * width * width + 2 * width)
    )
    assert parts[REST]["gflop"] > 0.05 and parts["actor at s'"]["operations"] > 5
    table = profile_record({**parts, "whole update": whole}, GAUSSIAN, "vaerl bench --profile")
    assert table["rows"][-1][:3] == ["whole update", round(whole["ms"], 3), 100.0]


def test_commands(tmp_path: Path) -> None:
    words = ["bench", "--groups", "acting-1-drawn", "--rounds", "1", "--no-progress"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["command"] == "vaerl bench --groups acting-1-drawn --rounds 1"
    assert set(written["speeds"]["acting-1-drawn"]) >= {"SB3 gaussian", CVAE}
    speeds = written["speeds"]["acting-1-drawn"]
    written["speeds"] = {"acting-1-drawn": speeds | {CVAE: 1e6}}
    (tmp_path / "other.json").write_text(json.dumps(written))
    done = CliRunner().invoke(app, [*words, "--check", str(tmp_path / "other.json")])
    assert done.exit_code == 1 and "recorded 1000000.00" in done.stdout.replace("\n", " ")
    done = CliRunner().invoke(app, ["bench", "--groups", "actin-1-drawn"])
    assert done.exit_code == 2 and "'acting-1-drawn'" in done.output


def test_options_for_speed_are_rivals_of_their_own() -> None:
    """Each with what its name says, where the update is measured."""
    group = GROUPS["update"]()
    for base, words in itertools.product((GAUSSIAN, CVAE), OPTIONS):
        name = f"{base} {words}"
        (case,) = (case for case in group.cases if case.name == name)
        agent = inspect.getclosurevars(case.work).nonlocals["agent"]
        assert (agent.matmul_precision == "bf16", agent.compile) == ("bf16" in name, "com" in name)
    assert [case.name for case in group.only([CVAE]).cases] == [group.cases[0].name, CVAE]


@pytest.mark.slow
@pytest.mark.parametrize("group", ["update", "acting-1-drawn"])
def test_speeds_are_not_far_below_the_recorded_ones(group: str) -> None:
    path = DOCS / "bench.json"
    recorded = json.loads(path.read_text())["speeds"]
    assert set(recorded) == set(group_names())
    rivals = [name for name in recorded[group] if "compile" not in name]  # that takes a minute
    assert regressions([measure(GROUPS[group]().only(rivals), 3)], recorded) == []
