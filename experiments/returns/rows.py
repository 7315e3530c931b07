"""The rows of the table: an algorithm with a critic and switches each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sb3_contrib
import stable_baselines3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from vaerl.agents import PPO, SAC
from vaerl.agents.tuned import tuned

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
        recipe: name of the settings in `agents/tuned.toml` that replace `settings`.
    """

    agent: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    any_density: bool = True
    recipe: str = ""

    @property
    def keeps_steps(self) -> bool:
        """Whether the agent learns from old steps too."""
        return issubclass(self.agent, OffPolicyAlgorithm)

    def options(self, env: str, density: str, debug: bool = False) -> dict[str, Any]:
        """The constructor's arguments on an environment; `debug`: for some hundred steps."""
        given = tuned(env, "", density, self.recipe).options if self.recipe else self.settings
        begin = {"learning_starts": 40} if self.keeps_steps else {"n_steps": 32}
        return {**given, **({**begin, "batch_size": 16} if debug else {})}

    def make(self, density: str, steps: int, **options: Any) -> Any:
        """The agent, on the environment among `options`, for a training of so many steps."""
        memory = {"buffer_size": steps} if self.keeps_steps else {}
        return self.agent(density if self.any_density else "MlpPolicy", **memory, **options)


def _widths(*critic: int) -> dict[str, Any]:
    """Layers of the actor as in SB3, and of the critics."""
    return {"net_arch": {"pi": [256, 256], "qf": list(critic)}}


SWITCHES: dict[str, Any] = {
    **RANDOM_STEPS,
    "learning_rate": 1e-3,
    "normalize_observations": True,
    "scale_rewards": True,
    "ent_coef": "auto_0.01",
    "target_entropy": "-|A|/2",
}
"""What everyone with good curves has, at no cost."""

_HALF_MOMENTUM = {"optimizer_kwargs": {"betas": [0.5, 0.999], "fused": True}}
_CROSSQ: dict[str, Any] = {
    **RANDOM_STEPS,
    "learning_rate": 1e-3,
    "critic": "crossq",
    "policy_delay": 3,
}
_XQC: dict[str, Any] = {
    **RANDOM_STEPS,
    "learning_rate": "lin_3e-4_3e-5",
    "critic": "xqc",
    "scale_rewards": True,
    "ent_coef": "auto_0.01",
    "target_entropy": "-|A|/2",
    "policy_delay": 3,
}
_FLASH: dict[str, Any] = {
    **_XQC,
    "learning_rate": "cos_3e-4_1.5e-4",
    "critic": "flash",
    "tau": 0.01,
    "target_entropy": "-.48|A|",
    "policy_delay": 2,
}

_SIMBA: dict[str, Any] = {**SWITCHES, "critic": "simba"}
_BF16: dict[str, Any] = {"matmul_precision": "bf16"}


def _contrib(width: int) -> Row:
    settings = {**RANDOM_STEPS, "policy_kwargs": _widths(width, width)}
    return Row(sb3_contrib.CrossQ, settings, any_density=False)


ROWS: dict[str, Row] = {
    "sb3-sac": Row(stable_baselines3.SAC, any_density=False),
    "sac": Row(SAC),
    "switches": Row(SAC, SWITCHES),
    "contrib-crossq-256": _contrib(256),
    "contrib-crossq-512": _contrib(512),
    "crossq-256": Row(SAC, {**_CROSSQ, "policy_kwargs": _widths(256, 256) | _HALF_MOMENTUM}),
    "crossq-256-bf16": Row(
        SAC, {**_CROSSQ, "policy_kwargs": _widths(256, 256) | _HALF_MOMENTUM, **_BF16}
    ),
    "crossq-512": Row(SAC, {**_CROSSQ, "policy_kwargs": _widths(512, 512) | _HALF_MOMENTUM}),
    "xqc-256": Row(SAC, {**_XQC, "policy_kwargs": _widths(256, 256, 256, 256)}),
    "flash-128": Row(SAC, {**_FLASH, "policy_kwargs": _widths(128, 128)}),
    "simba-128": Row(SAC, {**_SIMBA, "policy_kwargs": _widths(128, 128)}),
    "simba-128-bf16": Row(SAC, {**_SIMBA, "policy_kwargs": _widths(128, 128), **_BF16}),
    "tuned-sac": Row(SAC, recipe="sac"),
    "tuned-crossq": Row(SAC, recipe="crossq"),
    "tuned-ppo": Row(PPO, recipe="ppo"),
}
