"""The true dynamics as a planner's model: an environment with a known law, in torch.

This module imports torch; the environments do not.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv


class SimulatorModel:
    """Moves particles by the true law: the best model that a planner can have.

    Particles whose episode is over stay where they are, with reward 0. What an episode hides
    (the friction of HiddenFriction) is drawn by `begin` and held through the roll-out.

    Args:
        env: an environment with a known law, wrapped or not.

    >>> from vaerl.envs.fork import ForkEnv
    >>> model = SimulatorModel(ForkEnv())
    >>> after, rewards, dones = model.step(torch.zeros(2, 1), torch.tensor([0, 0]))
    >>> after[:, 0].tolist(), rewards.tolist(), dones.tolist()
    ([2.0, 2.0], [0.20000000298023224, 0.20000000298023224], [True, True])
    """

    def __init__(self, env: gymnasium.Env, hidden: dict[str, Array] | None = None) -> None:
        inner = env.unwrapped
        if not isinstance(inner, KnownLawEnv):
            raise TypeError(f"env: got {type(inner).__name__}, expected one with a known law")
        self.env = inner
        self._hidden = hidden or {}

    def begin(self, rows: int, generator: torch.Generator | None = None) -> SimulatorModel:
        """Return the model of one roll-out of `rows` particles."""
        return SimulatorModel(self.env, self.env.hidden_batch(rows, _numpy_generator(generator)))

    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Move particles (B, D) under actions (B, A), or (B,) if discrete.

        Returns next states (B, D), rewards (B,) and ends (B,), of the states' type and device.
        """
        now = states.detach().cpu().double().numpy()
        runs = self.env.legal(now)
        after, rewards, dones = now.copy(), np.zeros(len(now)), np.ones(len(now), dtype=np.bool_)
        if runs.any():
            hidden: dict[str, Any] = {key: value[runs] for key, value in self._hidden.items()}
            chosen = actions.detach().cpu().double().numpy()[runs]
            rng = _numpy_generator(generator)
            after[runs], rewards[runs], dones[runs] = self.env.step_batch(
                now[runs], chosen, rng, **hidden
            )
        return (
            _like(after, states),
            _like(rewards, states),
            torch.from_numpy(dones).to(states.device),
        )


def _numpy_generator(generator: torch.Generator | None) -> np.random.Generator:
    device = None if generator is None else generator.device
    seed = torch.randint(2**62, (1,), generator=generator, device=device)
    return np.random.default_rng(int(seed))


def _like(array: NDArray, tensor: Tensor) -> Tensor:
    return torch.from_numpy(array).to(tensor)
