"""Is a policy multimodal, and what does each latent do? Names load when first used."""

from typing import TYPE_CHECKING

from vaerl.lazy import attach

if TYPE_CHECKING:
    from vaerl.inspection.modes import Modes, find_modes

_HOMES = {"Modes": "modes", "find_modes": "modes"}
__all__ = ["Modes", "find_modes"]
__getattr__ = attach(__name__, _HOMES)
