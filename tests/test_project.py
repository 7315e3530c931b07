"""The rules of the house, read off the files themselves."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vaerl

ROOT = Path(__file__).resolve().parent.parent
TEXT = {".py", ".md", ".toml", ".txt", ".yml", ".json", ".html", ".css", ".js", ".j2", ""}
SKIPPED = {".git", ".venv", "runs", "site", "build", "dist", "wandb", "__pycache__"}

# Spelled in two parts, so that this file passes its own test.
MACHINE_PATH = re.compile(
    r"(?<![\w.~])/(?:wo" + r"rk|tm" + r"p|ro" + r"ot|ho" + r"me|Us" + r"ers)/"
)
REGISTRY = re.compile("py" + r"pi\.org|python" + r"hosted|registry\.np" + "mjs")
BANNED_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BANNED_CALLS = {
    ("", "eval"),
    ("", "exec"),
    ("", "__import__"),
    ("torch", "load"),
    ("th", "load"),
    ("np", "load"),
    ("numpy", "load"),
    ("yaml", "load"),
}


def project_files() -> list[Path]:
    """The files that git tracks or would track; without git, all but the built ones."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        files = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        files = [p for p in ROOT.rglob("*") if not SKIPPED & set(p.relative_to(ROOT).parts)]
    return sorted(p for p in files if p.is_file() and not p.is_symlink())


FILES = project_files()
PYTHON = [p for p in FILES if p.suffix == ".py"]
SHIPPED = [p for p in PYTHON if p.relative_to(ROOT).parts[0] not in ("tests", "docs")]


def calls_and_imports(source: str) -> set[str]:
    """The banned calls and imports of a Python source, each as `line: what`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            called = [(node.module or "", alias.name) for alias in node.names]
            found |= {f"{node.lineno}: {a}.{b}" for a, b in called if (a, b) in BANNED_CALLS}
        elif isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) if ("", name) in BANNED_CALLS:
                    found.add(f"{node.lineno}: {name}")
                case ast.Attribute(value=ast.Name(id=owner), attr=name) if (
                    owner,
                    name,
                ) in BANNED_CALLS and not _without_pickle(node):
                    found.add(f"{node.lineno}: {owner}.{name}")
        banned = [m for m in modules if m.split(".")[0] in BANNED_MODULES]
        found |= {f"{node.lineno}: import {m}" for m in banned}
    return found


def _without_pickle(call: ast.Call) -> bool:
    """Whether numpy is told not to unpickle objects, or torch to read nothing but tensors."""
    return any(
        isinstance(word.value, ast.Constant)
        and (word.arg, word.value.value) in (("allow_pickle", False), ("weights_only", True))
        for word in call.keywords
    )


def test_the_gate_sees_what_it_bans() -> None:
    """The search below finds each banned thing in a source that holds it."""
    assert calls_and_imports("np.load(f, allow_pickle=False)") == set()
    assert len(calls_and_imports("np.load(f)\nnp.load(f, allow_pickle=True)")) == 2
    bad = "import pickle\nfrom torch import load\ntorch.load(f)\neval('1')\n"
    assert len(calls_and_imports(bad)) == 4
    assert calls_and_imports("torch.load(f, weights_only=True)\n") == set()
    assert calls_and_imports("policy.eval()\nsafetensors.torch.load(b)\n") == set()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_source_can_run_code_from_a_file(path: Path) -> None:
    """No pickle, no eval, no torch.load: a checkpoint or a config is data."""
    assert calls_and_imports(path.read_text()) == set()


def test_folders_use_only_those_below_them() -> None:
    """The order of the folders, from the command line down; also imports inside functions."""
    order = ["cli", "experiments", "lab", "report", "runs", "checkpoint", "agents", "policies"]
    upward = set()
    for path in SHIPPED:
        parts = path.relative_to(ROOT).with_suffix("").parts
        home = parts[1] if parts[0] == "vaerl" else parts[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vaerl."):
                used = (node.module or "").split(".")[1]
                if home in order and used in order[: order.index(home)]:
                    upward.add(f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}")
    assert not upward, upward


def test_no_machine_paths_or_registry_names() -> None:
    """What is tracked works on any machine: no path of this one, no name of a package host."""
    found = []
    for path in (p for p in FILES if p.suffix in TEXT):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if MACHINE_PATH.search(line) or REGISTRY.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_no_python_file_is_long() -> None:
    """A module of more than 400 lines has more than one subject."""
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in PYTHON}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_versions_agree() -> None:
    """The newest section of the CHANGELOG is the version of the package."""
    versions = re.findall(r"^## \[?(\d[^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == vaerl.__version__


def test_constraints_pin_every_direct_dependency() -> None:
    """`pip install -c constraints.txt` leaves no direct dependency to chance."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {re.split(r"[\[<>=!~ ;]", line)[0].lower() for group in groups for line in group}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert wanted - pinned == set()
    assert not [line for line in lines if "+" in line.split("#")[0]], "a local version is in a pin"


def test_results_pages_are_up_to_date() -> None:
    """The pages of results say what the records beside the experiments say."""
    command = [sys.executable, str(ROOT / "docs" / "gen_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"rows": [[1]]}, "rows[0]: expected 2 cells"),
        ({"command": None}, "command: expected str"),
    ],
)
def test_a_page_of_results(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """A question becomes a page and a row of the index; an error names the faulty record."""
    spec = importlib.util.spec_from_file_location("gen_tables", ROOT / "docs" / "gen_tables.py")
    assert spec is not None and spec.loader is not None
    gen_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gen_tables)
    assert doctest.testmod(gen_tables).failed == 0
    record = {
        "title": "Demo",
        "command": "vaerl experiment demo",
        "caption": "Share of goals.",
        "columns": ["density", "share"],
        "rows": [["cvae", 0.98765], ["gaussian", None]],
        "versions": {"torch": "2.13.0"},
        "notes": ["one seed"],
    }
    for name in ("experiments/my_demo", "vaerl/lab/bench"):
        folder = tmp_path / name
        (folder / "results").mkdir(parents=True)
        (folder / "README.md").write_text("# Does it work?\n\nYes, it\ndoes.\n")
    (tmp_path / "experiments/my_demo/results/demo.json").write_text(json.dumps(record | change))
    if message:
        with pytest.raises(ValueError, match=re.escape(f"demo.json: {message}")):
            gen_tables.pages(tmp_path)
    else:
        pages = gen_tables.pages(tmp_path)
        assert "| [Does it work?](results/my-demo.md) | Yes, it does. |" in pages["results.md"]
        text = pages["results/my-demo.md"]
        for part in ("## Demo", "vaerl experiment demo", "| cvae | 0.9877 |", "torch 2.13.0"):
            assert part in text
