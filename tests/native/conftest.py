"""The native library, built where there is a compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from vaerl.native import library

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As `pip install -e` leaves it; nothing happens where it is up to date."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "native.lock"):
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(command, cwd=ROOT, capture_output=True)
    try:
        library.load()
    except library.Missing as why:
        pytest.skip(str(why))
