"""Pushing an export: the files arrive, the token stays, a refusal is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.hub_server import Hub
from vaerl.export.folder import CARD, DRAWN, WEIGHTS
from vaerl.export.hub import check_repository

TOKEN = "hf_" + "secretsecret" * 3
PUSH = """
import sys
from pathlib import Path
from vaerl.export.hub import push
from vaerl.disk.errors import RunFailed
try:
    print(push(Path(sys.argv[1]), "someone/first", private=True))
except RunFailed as error:
    print("failed:", error)
"""


def push(folder: Path, hub: Hub, home: Path) -> str:
    """What a program says that pushes; the library reads the address when it is imported."""
    environment = {
        **os.environ,
        **{"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home)},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export, as far as an upload can tell, with a file that is none of it."""
    made = tmp_path / "export"
    step = made / "checkpoints" / "000000128-20261129T050107123456"
    step.mkdir(parents=True)
    card = '---\nlibrary_name: "vaerl"\n---\n\n# `first`\n'
    for name, text in ((CARD, card), (DRAWN, "graph"), (WEIGHTS, "w"), ("config.json", "{}")):
        (made / name).write_text(text)
    (step / "manifest.json").write_text("{}")
    (made / "private.txt").write_text("not for others")
    return made


def test_the_files_of_an_export_arrive(folder: Path, tmp_path: Path) -> None:
    """All of them, binary ones by the large-file protocol, and nothing else in the folder."""
    hub = Hub()
    try:
        assert push(folder, hub, tmp_path / "home") == f"{hub.url}/someone/first"
    finally:
        hub.close()
    expected = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "private.txt"
    }
    assert hub.files == expected and len(hub.objects) == 2
    assert hub.repositories["someone/first"]["visibility"] == "private", hub.repositories
    assert f"Bearer {TOKEN}" in hub.tokens
    held = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in held if TOKEN.encode() in path.read_bytes()]


def test_a_refusal_is_one_line(folder: Path, tmp_path: Path) -> None:
    hub = Hub(refuse=403)
    try:
        said = push(folder, hub, tmp_path / "home")
    finally:
        hub.close()
    assert said.startswith("failed: --push someone/first: ") and "\n" not in said


@pytest.mark.parametrize("name", ["first", "../x", "a/b/c", "a /b", "-a/b", "a/b.", ""])
def test_names_that_no_hub_takes(name: str) -> None:
    with pytest.raises(ValueError, match=r"--push: got .* expected OWNER/NAME"):
        check_repository(name)


def test_a_name_passes() -> None:
    assert check_repository("some-one/first_2.0") == "some-one/first_2.0"
