"""Package attributes that import their module on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level `__getattr__` for `package`.

    Args:
        package: name of the package.
        homes: attribute -> submodule that defines it; "" if the attribute is a submodule itself.

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
