"""A run: its configuration, its directory, training and evaluation. Names load when first used.

>>> from vaerl.runs import RunDirectory
>>> RunDirectory("runs/first").metrics_path.name
'metrics.jsonl'
"""

from typing import TYPE_CHECKING

from vaerl.lazy import attach

if TYPE_CHECKING:
    from vaerl.runs.callback import TrackerCallback
    from vaerl.runs.config import TrainConfig
    from vaerl.runs.directory import RunDirectory
    from vaerl.runs.evaluate import evaluate
    from vaerl.runs.train import train

__all__ = ["RunDirectory", "TrackerCallback", "TrainConfig", "evaluate", "train"]
__getattr__ = attach(
    __name__,
    {
        "RunDirectory": "directory",
        "TrackerCallback": "callback",
        "TrainConfig": "config",
        "evaluate": "evaluate",
        "train": "train",
    },
)
