"""Names of a package that load their module at first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The module-level `__getattr__` of a package whose names live in the modules `homes` names.

    An empty home is a module of that name itself.

    >>> load = attach("vaerl.runs", {"TrainConfig": "config"})
    >>> load("TrainConfig").__name__
    'TrainConfig'
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(homes))}"
            )
        module = import_module(f"{package}.{homes[name] or name}")
        return getattr(module, name) if homes[name] else module

    return load
