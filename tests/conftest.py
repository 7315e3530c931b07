"""Settings shared by all tests: one thread, pictures without a screen, no talk to W&B."""

from __future__ import annotations

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

from vaerl.threads import limit_threads

_one_thread = limit_threads(1)
_one_thread.__enter__()
