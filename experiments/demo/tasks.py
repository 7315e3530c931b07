"""The two tasks of the demo, and the settings that every density gets there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Task:
    """What every policy of a part of the demo is trained with; only the density differs.

    Args:
        settings: fields of `TrainConfig`.
        densities: names, in the order of the page.
        steps: of training.
        heads: options of a density, by name.
    """

    settings: Mapping[str, Any]
    densities: tuple[str, ...]
    steps: int
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, density: str) -> dict[str, Any]:
        """The settings of one density's run."""
        own = {"steps": self.steps, "density_options": dict(self.heads.get(density, {}))}
        return {**self.settings, **own}


TARGET, SIGMA = (1.4, 0.0), 0.15
"""Of the arm. The target lies on the axis: each posture and its mirror image are equally good."""

KEEPS_MODES: Mapping[str, Any] = MappingProxyType(
    {
        "policy_kwargs": {
            "net_arch": {"pi": [64], "qf": [128, 128]},
            "critic_frequencies": 64,
            "critic_bandwidth": 2.0,
            "num_auxiliary": 2,
        },
        "improvement": "both",
        "improvement_kwargs": {
            "candidates": 16,
            "uniform_share": 0.5,
            "auxiliary": 1,
            "reverse_start": 0.7,
        },
    }
)
"""Options of SAC on the arm, with which all of its postures are found and kept."""

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "clone": Task(
            {
                "env": "vaerl/Avoiding-v0",
                "agent": "bc",
                "agent_options": {
                    "chunk": 16,
                    "execute": 8,
                    "history": 4,
                    "observation_noise": 0.02,
                    "policy_kwargs": {"sigma_floor": 0.45},
                },
                "final_episodes": 240,
            },
            ("gaussian", "cvae"),
            2500,
        ),
        "reach": Task(
            {
                "env": "vaerl/InverseKinematics-v0",
                "env_options": {"target": TARGET, "sigma": SIGMA},
                "agent": "sac",
                "n_envs": 32,
                "agent_options": {
                    "batch_size": 128,
                    "learning_rate": "lin_6e-3_1e-5",
                    "train_freq": 1,
                    "gradient_steps": 8,
                    "learning_starts": 2000,
                    **KEEPS_MODES,
                },
                "final_episodes": 200,
            },
            ("gaussian", "mixture", "cvae"),
            6000,
            {"mixture": {"components": 32, "weights": "learned"}, "cvae": {"prior_components": 16}},
        ),
    }
)
