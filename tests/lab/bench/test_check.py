"""A check against a record compares what the record names, or says in one line why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.lab.bench.fakes import put_groups, result_of
from vaerl.cli import app
from vaerl.lab.bench.check import compare, read_speeds
from vaerl.lab.bench.run import bench


def put(path: Path, speeds: object, **more: object) -> Path:
    path.write_text(json.dumps({"speeds": speeds, **more}))
    return path


def test_a_slower_rival_is_noticed() -> None:
    now = [result_of({"a": 3.0, "b": 1.5})]
    assert compare(now, {"g": {"a": 1.0, "b": 3.9}}) == (1, [])
    compared, (line,) = compare(now, {"g": {"a": 1.0, "b": 4.1}})
    assert compared == 1
    assert "b is 2.00 times as fast as a, recorded 4.10, expected at least 2.05" in line
    assert len(compare([result_of({"a": 1.0, "b": float("nan")})], {"g": {"a": 1, "b": 1}})[1]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "holds no speeds"),
        ('{"speeds": 3}', "holds no speeds"),
        ('{"speeds": {}}', "holds no speeds"),
        ('{"speeds": {"gone": {"a": 1.0}}}', "group: got 'gone'"),
        ('{"speeds": {"sac": {"b": NaN}}}', "NaN is not a JSON number"),
        ('{"speeds": {"sac": {"b": 1e999}}}', "not finite"),
        ('{"speeds": {"sac": {"b": 0.0}}}', "got 0.0, expected one above 0"),
        ('{"speeds": {"sac": {"b": -2}}}', "got -2, expected one above 0"),
        ('{"speeds": {"sac": {"b": "2"}}}', "got '2', expected one above 0"),
        ('{"speeds": {"sac": {"b": true}}}', "got True, expected one above 0"),
        ('{"speeds": {"sac": []}}', r"speeds of sac: got \[\], expected an object"),
        ('{"speeds": {"sac": {"b": 2.0}}, "device": "cuda (H)"}', r"measured on cuda \(H\)"),
    ],
)
def test_a_record_of_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"--check: got .*x\.json, expected a bench.*{words}"):
        read_speeds(path)


def test_a_group_that_is_asked_for_has_to_be_recorded(tmp_path: Path) -> None:
    path = put(tmp_path / "x.json", {"sac": {"a": 1.0}, "ppo": {"a": 1.0}})
    assert list(read_speeds(path)) == ["sac", "ppo"] and list(read_speeds(path, ["ppo"])) == ["ppo"]
    with pytest.raises(ValueError, match=r"--groups: got 'imports', expected groups .*: sac, ppo"):
        read_speeds(path, ["ppo", "imports"])


@pytest.mark.parametrize(
    ("speeds", "words"),
    [
        ({"a": 1.0, "bb": 2.0}, "rival of sac: got 'bb'"),  # renamed
        ({"b": 2.0}, "no speed of 'a' in sac"),
        ({}, "no speed of 'a' in sac"),
        ({"a": 1.0}, "got only a in sac, expected one of b"),
        ({"a": 1.0, "far": 2.0}, "got only a, far in sac"),
    ],
)
def test_rivals_that_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float], words: str
) -> None:
    """Those that are not installed here are left out, nothing else; something has to stay."""
    put_groups(monkeypatch, {"a": 3.0, "b": 1.5}, missing={"far": "not installed"})
    with pytest.raises(ValueError, match=f"--check: .*{words}"):
        bench(check=put(tmp_path / "x.json", {"sac": speeds}), rounds=1, progress=False)


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 and how many speeds were compared, 1 for a slower one, 2 where nothing can be compared."""
    built = put_groups(monkeypatch, {"a": 3.0, "b": 1.5}, missing={"far": "not installed"})
    path = tmp_path / "x.json"
    words = ["bench", "--check", str(path), "--rounds", "1", "--no-progress"]
    put(path, {"sac": {"a": 1.0, "b": 2.0, "far": 9.0}, "ppo": {"a": 1.0, "b": 2.0}})
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "2 speeds compared" in done.stdout, done.output
    done = CliRunner().invoke(app, [*words, "--groups", "ppo"])
    assert done.exit_code == 0 and "1 speed compared" in done.stdout, done.output
    assert built == ["sac", "ppo", "ppo"], "what is not recorded is not measured"
    put(path, {"sac": {"a": 1.0, "b": 1e6}})
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "recorded 1000000.00" in done.stdout.replace("\n", " ")
    put(path, {"gone": {"a": 1.0}})
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "'gone'" in done.output
