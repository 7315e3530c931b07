"""Where the numbers and pictures of a run go. A tracker never stops and never changes training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaerl.registry import Registry
from vaerl.track.base import Tracker, Trackers
from vaerl.track.jsonl import JsonlTracker

if TYPE_CHECKING:
    from vaerl.track.tensorboard import TensorBoardTracker
    from vaerl.track.wandb import WandbTracker

TRACKERS = Registry(
    "tracker",
    "vaerl.trackers",
    {
        "tensorboard": ("vaerl.track.tensorboard:TensorBoardTracker", "TensorBoard event files"),
        "wandb": ("vaerl.track.wandb:WandbTracker", "Weights & Biases, online or offline"),
    },
)

__all__ = [
    "TRACKERS",
    "JsonlTracker",
    "TensorBoardTracker",
    "Tracker",
    "Trackers",
    "WandbTracker",
]


def __getattr__(name: str) -> Any:
    return TRACKERS.attribute(name)
