"""No checkpoint, however it was made, runs code or raises anything but one VaerlLoadError."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vaerl
from tests.checkpoint import poison, poison_manifest
from tests.runs.tiny import trained
from vaerl.checkpoint import save_checkpoint

ROOT = Path(vaerl.__file__).parent
PACKAGES = ("vaerl.checkpoint", "vaerl.disk", "vaerl.runs")


def _source(module: str) -> Path:
    """The file of a module by its dotted name."""
    return (ROOT / Path(*module.split(".")[1:])).with_suffix(".py")


def _loader() -> list[str]:
    """The modules of those packages that loading a checkpoint imports."""
    reached, todo = set[str](), ["vaerl.checkpoint.load"]
    while todo:
        name = todo.pop()
        if name in reached or not _source(name).is_file():
            continue
        reached.add(name)
        for node in ast.walk(ast.parse(_source(name).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
                todo += [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
    return sorted(reached)


BANNED_MODULES = set(
    [
        "pickle",
        "cloudpickle",
        "dill",
        "joblib",
        "marshal",
        "shelve",
        "yaml",
        "importlib",
        "runpy",
        "ctypes",
        "subprocess",
        "code",
        "zipfile",
        "tarfile",
    ]
)
BANNED_CALLS = set(
    [
        "eval",
        "exec",
        "compile",
        "__import__",
        "import_module",
        "load_module",
        "system",
        "popen",
        "execv",
        "execve",
        "unsafe_load",
        "full_load",
        "load_from_zip_file",
    ]
)
BANNED_ATTRIBUTES = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("th", "load")}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one child process made of every case."""
    root = tmp_path_factory.mktemp("poison")
    good = save_checkpoint(trained("sb3-sac", 30), root / "good", include_replay=True)
    paths = {}
    for index, (name, spoil) in enumerate(poison.CASES.items()):
        folder = root / str(index) / good.name
        shutil.copytree(good, folder)
        spoil(folder)
        paths[name] = str(folder)
    (root / "good copy").mkdir()
    shutil.copytree(good, root / "good copy" / good.name)
    paths["harmless: nothing at all"] = str(root / "good copy")
    listing = root / "cases.json"
    listing.write_text(json.dumps(paths))
    command = [sys.executable, "-m", "tests.checkpoint.poison_child", str(good), str(listing)]
    here = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (here / "SENTINEL").exists()
    return json.loads(done.stdout.splitlines()[-1])


def test_there_are_enough_cases() -> None:
    """The corpus is not emptied by accident."""
    assert len(poison.CASES) >= 150
    assert {case.__module__ for case in poison.CASES.values()} >= {poison_manifest.__name__}


@pytest.mark.parametrize("name", [*poison.CASES, "harmless: nothing at all"])
def test_poison_is_refused(results: dict[str, Any], name: str) -> None:
    """One line, no code run, no file written, no connection, no hang."""
    result = results[name]
    assert result["violations"] == []
    if name.startswith(poison.HARMLESS):
        assert result["outcome"] == "loaded"
    else:
        assert result["outcome"].startswith("refused: "), result["outcome"]
        assert "\n" not in result["outcome"] and len(result["outcome"]) < 700
    assert result["seconds"] < 20


def test_messages_name_the_place_and_the_nearest_name(results: dict[str, Any]) -> None:
    """A few of the lines, in full."""
    for name, words in {
        "agent 'SB3-SAC'": "did you mean 'sb3-sac'",
        "format 2": "newer than this vaerl reads (1)",
        "a key twice": "'format' appears twice",
        "NaN": "NaN is not a JSON number",
        "a link to the payload": "policy.safetensors: a link; expected a plain file",
        "a FIFO as payload": "no plain file",
        "net_arch [30000, 30000]": "more than",
        "negative bytes": "files:policy.safetensors:bytes: -1; expected an integer >= 0",
        "numpy's position out of its array": "position: 1000000000",
    }.items():
        assert words in results[name]["outcome"], results[name]["outcome"]


@pytest.mark.parametrize("name", _loader())
def test_loader_modules_have_no_way_to_run_code(name: str) -> None:
    """No unpickling, no YAML, no dynamic import, no eval in the source of the loader."""
    for node in ast.walk(ast.parse(_source(name).read_text())):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(alias.name for alias in node.names)]
        for module in modules:
            if module == "metadata" or module == "importlib":
                assert getattr(node, "module", "") == "importlib" and "metadata" in modules
                continue  # importlib.metadata only reads versions
            assert module.split(".")[0] not in BANNED_MODULES, f"{name}: import {module}"
            assert module not in BANNED_CALLS, f"{name}: import {module}"
        if isinstance(node, ast.Call):
            called = node.func
            label = getattr(called, "id", getattr(called, "attr", ""))
            assert label not in BANNED_CALLS or _is_regex(called), f"{name}:{node.lineno}: {label}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in BANNED_ATTRIBUTES, f"{name}:{node.lineno}"


def _is_regex(called: ast.expr) -> bool:
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and (called.value.id, called.attr) == ("re", "compile")
    )


def test_the_gate_covers_the_loader() -> None:
    """The files that hold states, names and bytes are among the modules that are looked at."""
    assert {"vaerl.checkpoint.load", "vaerl.checkpoint.tensors", "vaerl.disk.jsonio"} <= set(
        _loader()
    )
