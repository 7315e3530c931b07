"""Versions of the packages that determine the numbers of a run."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = {
    "vaerl": "vaerl",
    "python": "",
    "sb3": "stable-baselines3",
    "torch": "torch",
    "numpy": "numpy",
    "gymnasium": "gymnasium",
    "mujoco": "mujoco",
}


def versions() -> dict[str, str]:
    """Return the versions by package; "none" for a package that is not installed.

    >>> sorted(versions())
    ['gymnasium', 'mujoco', 'numpy', 'python', 'sb3', 'torch', 'vaerl']
    """
    found: dict[str, str] = {}
    for name, package in _PACKAGES.items():
        try:
            found[name] = metadata.version(package) if package else platform.python_version()
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found
