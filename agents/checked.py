"""Arguments of agents, checked before anything is built from them.

SB3 takes most numbers as they are, and fails later, elsewhere, or never.
"""

from __future__ import annotations

import math
from typing import Any

from gymnasium import spaces

LEAST = {
    **dict.fromkeys(("batch_size", "buffer_size", "n_epochs", "n_steps", "stats_window_size"), 1),
    **dict.fromkeys(("target_update_interval", "train_freq", "net_arch", "n_critics"), 1),
    **dict.fromkeys(("gamma", "gae_lambda", "tau", "learning_rate", "learning_starts"), 0),
    **dict.fromkeys(("clip_range", "clip_range_vf", "max_grad_norm", "target_kl", "vf_coef"), 0),
    "ent_coef": 0,
    "gradient_steps": -1,
}
"""The smallest legal number of each argument; of several numbers, each counts."""
MOST = {**dict.fromkeys(("gamma", "gae_lambda", "tau"), 1), "learning_rate": 1000}
WHOLE = ("batch_size", "buffer_size", "n_epochs", "n_steps", "learning_starts", "gradient_steps")
SEEDS = 2**32


def check_argument(name: str, value: Any) -> None:
    """Raise a ValueError of one line for a number out of its range; all else passes.

    >>> check_argument("gamma", 0.99)
    >>> check_argument("buffer_size", 0)
    Traceback (most recent call last):
    ValueError: buffer_size: got 0, expected a whole number, 1 or more
    """
    numbers = value if isinstance(value, list | tuple) else [value]
    low, high = LEAST.get(name, -math.inf), MOST.get(name, math.inf)
    for number in numbers:
        if isinstance(number, int | float) and not isinstance(number, bool):
            broken = name in WHOLE and not isinstance(number, int)
            if broken or not low <= number <= high:
                span = f"from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
                kind = "a whole number" if name in WHOLE else "a number"
                raise ValueError(f"{name}: got {value!r}, expected {kind}, {span}")


def check_steps(steps: Any) -> None:
    """Raise a ValueError of one line unless `steps` is a whole number, 0 or more."""
    if isinstance(steps, bool) or not hasattr(type(steps), "__index__") or steps < 0:
        raise ValueError(f"total_timesteps: got {steps!r}, expected a whole number, 0 or more")


def check_spaces(agent: Any) -> None:
    """Raise a ValueError of one line for an agent without an environment."""
    if getattr(agent, "observation_space", None) is None:
        raise ValueError("env: got None, expected an environment or its id")


class Checked:
    """An agent whose arguments are checked; mixed in before the SB3 class."""

    observation_space: spaces.Space

    def _setup_model(self) -> None:
        check_spaces(self)
        for name in LEAST:
            check_argument(name, getattr(self, name, getattr(self, f"_{name}", None)))
        seed = getattr(self, "seed", None)
        if seed is not None and not (hasattr(type(seed), "__index__") and 0 <= seed < SEEDS):
            raise ValueError(f"seed: got {seed!r}, expected a whole number from 0 to {SEEDS - 1}")
        super()._setup_model()  # type: ignore[misc]

    def _setup_learn(self, total_timesteps: Any, *args: Any, **kwargs: Any) -> Any:
        check_steps(total_timesteps)
        return super()._setup_learn(total_timesteps, *args, **kwargs)  # type: ignore[misc]

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        """As in SB3."""
        check_keys(self.observation_space, observation)
        return super().predict(observation, *args, **kwargs)  # type: ignore[misc]


def check_keys(space: spaces.Space, observation: Any) -> None:
    """Raise a ValueError of one line unless a dict observation has the keys of its space."""
    if isinstance(space, spaces.Dict):
        found = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
        if found != sorted(space.spaces):
            raise ValueError(
                f"observation: got {found}, expected a dict with the keys {sorted(space.spaces)}"
            )
