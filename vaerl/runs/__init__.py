"""A run: its directory, its checkpoints, the trackers beside it. Names load when first used.

>>> from vaerl.runs import RunDirectory
>>> RunDirectory("runs/first").metrics_path.name
'metrics.jsonl'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaerl.runs.callback import TrackerCallback
    from vaerl.runs.checkpoint import prune_checkpoints, save_checkpoint
    from vaerl.runs.checkpoint_load import find_checkpoint, load_checkpoint
    from vaerl.runs.directory import RunDirectory
    from vaerl.runs.errors import VaerlLoadError, WriteError
    from vaerl.runs.tensorboard_tracker import TensorBoardTracker
    from vaerl.runs.trackers import JsonlTracker, Tracker
    from vaerl.runs.wandb_tracker import WandbTracker

_HOME = {
    "JsonlTracker": "trackers",
    "RunDirectory": "directory",
    "TensorBoardTracker": "tensorboard_tracker",
    "Tracker": "trackers",
    "TrackerCallback": "callback",
    "VaerlLoadError": "errors",
    "WandbTracker": "wandb_tracker",
    "WriteError": "errors",
    "find_checkpoint": "checkpoint_load",
    "load_checkpoint": "checkpoint_load",
    "prune_checkpoints": "checkpoint",
    "save_checkpoint": "checkpoint",
}

__all__ = [
    "JsonlTracker",
    "RunDirectory",
    "TensorBoardTracker",
    "Tracker",
    "TrackerCallback",
    "VaerlLoadError",
    "WandbTracker",
    "WriteError",
    "find_checkpoint",
    "load_checkpoint",
    "prune_checkpoints",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Load the module that holds `name`; torch and wandb come only with what needs them."""
    if name in _HOME:
        return getattr(import_module(f"vaerl.runs.{_HOME[name]}"), name)
    raise AttributeError(f"module 'vaerl.runs' has no attribute {name!r}")
