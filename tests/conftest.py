"""Settings shared by all tests: one thread, pictures without a screen, no talk to W&B."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

import pytest

from vaerl.threads import limit_threads

_one_thread = limit_threads(1)
_one_thread.__enter__()


@pytest.fixture
def hangups() -> Iterator[None]:
    """SIGHUP as a terminal has it, for this process and those it starts: nohup ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
