"""vaerl: conditional densities p(x | c), conditional VAEs first, as policies for Stable-Baselines3.

Importing the package registers its Gymnasium environments (`vaerl/MultiGoal-v0`, …) and nothing
more: torch, matplotlib and wandb are loaded by the parts that need them, at their first use.

    >>> import vaerl
    >>> vaerl.__version__
    '0.1.0'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vaerl import envs

if TYPE_CHECKING:
    from vaerl import agents, densities, dynamics, experiments, planning, policies, runs
    from vaerl.densities import make_density
    from vaerl.inspection import inspect_policy

__version__ = "0.1.0"

_SUBPACKAGES = ("agents", "densities", "dynamics", "experiments", "planning", "policies", "runs")
_FUNCTIONS = {"inspect_policy": "inspection", "make_density": "densities"}

__all__ = [
    "__version__",
    "agents",
    "densities",
    "dynamics",
    "envs",
    "experiments",
    "inspect_policy",
    "make_density",
    "planning",
    "policies",
    "runs",
]


def __getattr__(name: str) -> Any:
    """Load a subpackage or a function at its first use."""
    if name in _SUBPACKAGES:
        return import_module(f"vaerl.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module(f"vaerl.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'vaerl' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """List the lazy names beside the loaded ones."""
    return sorted({*globals(), *__all__})
