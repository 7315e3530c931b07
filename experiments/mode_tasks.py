"""The tasks and policies of `modes`, and the settings with which they are trained.

A task gives every policy the same critic, budget, seeds and learning rates. What belongs to the
improvement step (its temperature above all) is a `recipe` of the task: one for the reverse step,
one for both. Both recipes are there for every density; the settings tried to find them are listed
in `TRIED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Task:
    """An environment with the budget and settings that every policy gets there.

    Args:
        env: Gymnasium id.
        steps: of the environment, in all copies together.
        agent: constructor options of `vaerl.agents.SAC`.
        recipes: more of them for each improvement step.
        n_envs: copies stepped side by side.
        heads: options of each density, by name; a policy's own come before them.
        seeds: how many each policy gets from 0 on, by name; `fewer` for those not named.
        goal: what the table is to show, in words.
    """

    env: str
    steps: int
    agent: Mapping[str, Any]
    recipes: Mapping[str, Mapping[str, Any]]
    n_envs: int = 8
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    fewer: int = 1
    goal: str = ""


@dataclass(frozen=True)
class Policy:
    """A density, its options, and the improvement step it is trained with."""

    density: str
    improvement: str
    density_options: Mapping[str, Any] = field(default_factory=dict)


_TWO = {"latent_dims": [4, 2]}

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "gaussian": Policy("gaussian", "reverse"),
        "mixture": Policy("mixture", "reverse"),
        "flow": Policy("flow", "reverse"),
        "cvae": Policy("cvae", "reverse"),
        "cvae-L2": Policy("cvae", "reverse", _TWO),
        "gaussian-both": Policy("gaussian", "both"),
        "mixture-both": Policy("mixture", "both"),
        "flow-both": Policy("flow", "both"),
        "cvae-both": Policy("cvae", "both"),
        "cvae-L2-both": Policy("cvae", "both", _TWO),
    }
)
