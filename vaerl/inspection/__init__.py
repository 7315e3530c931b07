"""Is a policy multimodal, and what does each latent do? Names load when first used.

`inspect_policy` looks at an agent or at any f(observation, z); `find_modes` counts modes of draws.
"""

from typing import TYPE_CHECKING

from vaerl.lazy import attach

if TYPE_CHECKING:
    from vaerl.inspection.inspect import Inspection, inspect_policy
    from vaerl.inspection.modes import Modes, find_modes

_HOMES = {
    "Inspection": "inspect",
    "Modes": "modes",
    "find_modes": "modes",
    "inspect_policy": "inspect",
}
__all__ = ["Inspection", "Modes", "find_modes", "inspect_policy"]
__getattr__ = attach(__name__, _HOMES)
