"""The true simulator as a model: environments that step whole batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaerl.planning.model import Step


class SimulatorModel:
    """A `Model` over ``env.step_batch(states, actions, rng)``, which gives (s', r, d) as arrays.

    Args:
        env: an environment with that method, as `vaerl.envs.known_law.KnownLawEnv`; actions are in
            its own units.

    Raises:
        ValueError: an environment without it.

    >>> class Walk:
    ...     def step_batch(self, states, actions, rng):
    ...         return states + actions, -abs(states[:, 0]), states[:, 0] > 1.0
    >>> SimulatorModel(Walk()).step(torch.ones(1, 1), torch.ones(1, 1)).next_states
    tensor([[2.]])
    """

    def __init__(self, env: Any) -> None:
        self.env = getattr(env, "unwrapped", env)
        if not callable(getattr(self.env, "step_batch", None)):
            raise ValueError(
                f"env: got {type(self.env).__name__}, "
                "expected one with a method step_batch(states, actions, rng)"
            )

    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """Next states, rewards and ends; its random stream is seeded from `generator`."""
        seed = int(torch.randint(2**62, (), generator=generator))
        after, reward, done = self.env.step_batch(
            states.cpu().numpy(), actions.cpu().numpy(), np.random.default_rng(seed)
        )
        return Step(
            torch.as_tensor(after).to(states),
            torch.as_tensor(reward).to(states),
            torch.as_tensor(done, device=states.device),
        )
