"""The tasks and policies of `modes`, and the settings with which they are trained.

A task gives every policy the same critic, budget, seeds and learning rates. What belongs to the
improvement step (its temperature above all) is a `recipe` of the task: one for the reverse step,
one for both, the same for every density. results/tuning.csv lists the settings that were tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vaerl.lab.record import plain


@dataclass(frozen=True)
class Task:
    """An environment with the budget and settings that every policy gets there.

    Args:
        env: Gymnasium id.
        steps: of the environment, in all copies together.
        agent: constructor options of `vaerl.agents.SAC`.
        recipes: more of them for each improvement step.
        n_envs: copies stepped side by side.
        heads: options of each density, by its name and by its name with "-both" where that step is
            taken.
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

    def settings(self) -> dict[str, Any]:
        """What determines the training of a policy here, as plain data."""
        names = ("env", "steps", "n_envs", "agent", "recipes", "heads")
        return plain({name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Policy:
    """A density, its options, and the improvement step it is trained with."""

    density: str
    improvement: str
    density_options: Mapping[str, Any] = field(default_factory=dict)

    def options(self, task: Task) -> dict[str, Any]:
        """Options of the density on a task."""
        kinds = (self.density, f"{self.density}-{self.improvement}")
        of_task = {k: v for kind in kinds for k, v in task.heads.get(kind, {}).items()}
        return {**of_task, **self.density_options}


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

_NETS = {"net_arch": [128, 128], "num_auxiliary": 2}
_UPDATES = {"batch_size": 128, "train_freq": 1, "gradient_steps": 4}
_PLANAR = {
    **_UPDATES,
    "learning_rate": "lin_2e-3_1e-5",
    "learning_starts": 2000,
    "policy_kwargs": _NETS,
}
_STEPS = {"candidates": 12, "auxiliary": 1}
_WARM = {"reverse": {}, "both": {"improvement_kwargs": _STEPS}}
_COOLING = {"reverse_start": 0.25, "forward_end": 0.45}  # before the modes have come apart
_FIVE = {"gaussian": 5, "mixture-both": 5, "cvae-both": 5}
_WIDE: Mapping[str, Mapping[str, Any]] = {
    "mixture": {"components": 32},
    "cvae": {"prior_components": 32},
}
_WEIGHED: Mapping[
    str, Mapping[str, Any]
] = {  # the forward step can learn the weights, the reverse step alone cannot
    **_WIDE,
    "mixture-both": {"weights": "learned"},
    "cvae-both": {"prior_weights": "learned"},
}

_MAZE = {
    **_UPDATES,
    "learning_rate": "lin_1e-3_1e-5",
    "learning_starts": 1000,
    "gamma": 0.99,
    "ent_coef": 0.3,
    "relative_entropy": True,
    "policy_kwargs": {**_NETS, "noise_hold": 50},
}
_THREE = {"gaussian": 3, "cvae": 3}

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "bandit": Task(
            "vaerl/Bandit40-v0",
            20_000,
            {
                "batch_size": 128,
                "learning_rate": "lin_6e-3_1e-5",
                "train_freq": 1,
                "gradient_steps": 8,
                "learning_starts": 2000,
                "ent_coef": 1.0,
                "policy_kwargs": {
                    "net_arch": {"pi": [64], "qf": [128, 128]},
                    "critic_frequencies": 64,
                    "num_auxiliary": 2,
                },
            },
            {
                "reverse": {},
                "both": {
                    "improvement_kwargs": {
                        "candidates": 16,
                        "uniform_share": 0.5,
                        "auxiliary": 1,
                        "reverse_start": 0.7,
                    }
                },
            },
            n_envs=32,
            heads={
                "cvae": {"prior_components": 64, "hidden": 64, "k": 8},
                "mixture": {"components": 64},
                "mixture-both": {"weights": "learned"},
            },
            seeds={"gaussian": 10, "mixture-both": 5, "cvae-both": 10},
            goal="≥ 38 modes, ≤ .05 outside 99 %, entropy within .05 of −.543, ≤ 5 minutes",
        ),
        "multigoal": Task(
            "vaerl/MultiGoal-v0",
            20_000,
            {**_PLANAR, "gamma": 0.99, "ent_coef": 10.0},
            _WARM,
            heads=_WEIGHED,
            seeds=_FIVE,
            goal="4 goals in every seed, score ≥ .95, return no worse than the Gaussian's best",
        ),
        "multigoal-cooled": Task(
            "vaerl/MultiGoal-v0",
            20_000,
            {
                **_PLANAR,
                "gamma": 0.99,
                "ent_coef": "anneal_30_1_0.9",
                "batch_size": 512,  # the critic's errors, over a low α, decide between goals
                "gradient_steps": 8,
            },
            {"reverse": {}, "both": {"improvement_kwargs": _STEPS | _COOLING}},
            heads=_WIDE,
            seeds=_FIVE,
            goal="the same, with the temperature let down",
        ),
        "point-mass": Task(
            "vaerl/PointMass-v0",
            20_000,
            {**_PLANAR, "gamma": 0.9, "ent_coef": 0.5},
            _WARM,
            heads=_WEIGHED,
            seeds=_FIVE,
            goal="4 goals in every seed, score ≥ .95, return no worse than the Gaussian's best",
        ),
        **{
            f"maze-{name}": Task(
                f"vaerl/PointMaze{name.title()}-v0",
                steps,
                {**_MAZE, "gradient_steps": updates},
                _WARM,
                n_envs=16,
                heads=_WEIGHED,
                seeds=_THREE,
                fewer=0,
                goal=f"{goals} goals",
            )
            for name, steps, updates, goals in (
                ("simple", 100_000, 2, "4 of 4"),
                ("medium", 200_000, 1, "4 of 4"),
                ("hard", 300_000, 1, "≥ 6 of 8"),
            )
        },
    }
)
