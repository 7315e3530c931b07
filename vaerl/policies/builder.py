"""Who builds a policy: SB3 does not tell it."""

from __future__ import annotations

import inspect

from stable_baselines3.common.base_class import BaseAlgorithm


def building_agent() -> BaseAlgorithm | None:
    """The agent whose `_setup_model` is running, if any."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name != "_setup_model":
        frame = frame.f_back
    return None if frame is None else frame.f_locals.get("self")
