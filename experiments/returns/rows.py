"""The rows of the table: an algorithm with a critic and switches each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sb3_contrib
import stable_baselines3

from vaerl.agents import SAC

GAUSSIAN = "gaussian"
RANDOM_STEPS = {"learning_starts": 5000}
"""Random steps at the start, in every row but that of defaults."""


@dataclass(frozen=True)
class Row:
    """What is trained.

    Args:
        agent: the class.
        settings: arguments of its constructor.
        any_density: whether it takes the name of a density for a policy; otherwise the policy is
            that library's Gaussian.
    """

    agent: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    any_density: bool = True

    def make(self, density: str, **options: Any) -> Any:
        """The agent, on the environment among `options`."""
        return self.agent(density if self.any_density else "MlpPolicy", **options)


def _contrib(width: int) -> Row:
    kwargs = {"net_arch": {"pi": [256, 256], "qf": [width, width]}}
    settings = {**RANDOM_STEPS, "policy_kwargs": kwargs}
    return Row(sb3_contrib.CrossQ, settings, any_density=False)


ROWS: dict[str, Row] = {
    "sb3-sac": Row(stable_baselines3.SAC, any_density=False),
    "sac": Row(SAC),
    "contrib-crossq-256": _contrib(256),
    "contrib-crossq-512": _contrib(512),
}
