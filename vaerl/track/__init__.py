"""Where numbers and pictures of a run go: JSONL, TensorBoard, W&B. Names load when first used."""

from typing import TYPE_CHECKING

from vaerl import lazy

if TYPE_CHECKING:
    from vaerl.track.base import JsonlTracker, Tracker
    from vaerl.track.tensorboard import TensorBoardTracker
    from vaerl.track.wandb import WandbTracker

__all__ = ["JsonlTracker", "TensorBoardTracker", "Tracker", "WandbTracker"]
__getattr__ = lazy.attach(
    __name__,
    {
        "JsonlTracker": "base",
        "TensorBoardTracker": "tensorboard",
        "Tracker": "base",
        "WandbTracker": "wandb",
    },
)
