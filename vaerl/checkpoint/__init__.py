"""Checkpoints of an agent as safetensors and JSON. Names load when first used."""

from typing import TYPE_CHECKING

from vaerl import lazy

if TYPE_CHECKING:
    from vaerl.checkpoint.load import load_checkpoint
    from vaerl.checkpoint.read import find_checkpoint
    from vaerl.checkpoint.save import prune_checkpoints, save_checkpoint

__all__ = ["find_checkpoint", "load_checkpoint", "prune_checkpoints", "save_checkpoint"]
__getattr__ = lazy.attach(
    __name__,
    {
        "find_checkpoint": "read",
        "load_checkpoint": "load",
        "prune_checkpoints": "save",
        "save_checkpoint": "save",
    },
)
