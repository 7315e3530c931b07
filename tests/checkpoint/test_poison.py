"""No checkpoint, however it was made, runs code or raises anything but one VaerlLoadError."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import vaerl
from tests.checkpoint.poison import BOMB, CASES
from tests.runs.tiny import trained
from vaerl.checkpoint import load_checkpoint, save_checkpoint
from vaerl.disk.errors import VaerlLoadError

FORBIDDEN = (
    *("exec", "compile", "import", "marshal.loads", "pickle.find_class", "ctypes.dlopen"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"),
    *("os.chmod", "os.putenv", "socket.connect", "socket.bind", "shutil.rmtree"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes what no loader has a reason to do, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.note)  # for good: Python has no way to take a hook away

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = event == "open" and (
            set(str(arguments[1] or "")) & set("wax+") or (arguments[2] or 0) & WRITES
        )
        if event in FORBIDDEN or writes:
            self.seen.append(f"{event} {arguments!r}"[:200])


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that loads; loading it imports what torch and the agent need at first use."""
    agent = trained("sb3-sac", 30)
    path = save_checkpoint(agent, tmp_path_factory.mktemp("good"), include_replay=True)
    load_checkpoint(path, include_replay=True, restore_rng=True)
    return path


@pytest.mark.parametrize("name", CASES)
def test_poison_is_refused_in_one_line(
    good: Path, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No code run, no file written, no module imported, no connection, no hang."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / good.name
    shutil.copytree(good, folder)
    CASES[name](folder)
    watch.seen.clear()
    watch.on = True
    try:
        with pytest.raises(VaerlLoadError) as caught:
            load_checkpoint(folder, include_replay=True, restore_rng=True)
    finally:
        watch.on = False
    assert watch.seen == [] and not (tmp_path / "SENTINEL").exists()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_what_is_not_listed_is_not_looked_at(good: Path, tmp_path: Path) -> None:
    """A pickle beside the files of a checkpoint does no harm; a link to a directory is refused."""
    shutil.copytree(good, tmp_path / good.name)
    (tmp_path / good.name / "data.pkl").write_bytes(BOMB)
    load_checkpoint(tmp_path / good.name)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / good.name).symlink_to(good)
    with pytest.raises(VaerlLoadError, match="got a link, expected a folder"):
        load_checkpoint(tmp_path / "linked" / good.name)


def test_the_watch_sees_a_bomb(watch: Watch, tmp_path: Path, monkeypatch: Any) -> None:
    """The tests above can fail: what unpickles such a file is found out."""
    import pickle

    monkeypatch.chdir(tmp_path)
    watch.seen.clear()
    watch.on = True
    pickle.loads(BOMB)
    watch.on = False
    assert any(event.startswith("os.system") for event in watch.seen)
    assert (tmp_path / "SENTINEL").exists()


BANNED_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "runpy"}
BANNED_MODULES |= {"ctypes", "subprocess", "code", "zipfile", "tarfile"}
BANNED_CALLS = {"eval", "exec", "__import__", "system", "popen", "execv", "execve", "unsafe_load"}
BANNED_CALLS |= {"full_load", "load_from_zip_file", "import_module", "load_module"}
LOADERS = [
    path
    for folder in ("checkpoint", "disk")
    for path in sorted((Path(vaerl.__file__).parent / folder).glob("*.py"))
] + [Path(vaerl.__file__).parent / "agents" / "description.py"]


@pytest.mark.parametrize("path", LOADERS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_loader_modules_have_no_way_to_run_code(path: Path) -> None:
    """No unpickling, no YAML, no dynamic import, no eval in the source of the loader."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            assert not {name.split(".")[0] for name in names} & BANNED_MODULES, node.lineno
            assert not names & BANNED_CALLS, node.lineno
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            assert called not in BANNED_CALLS, node.lineno
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in (("torch", "load"), ("np", "load"))
