"""Rewards in units of the deviation of the return, so that α and critics need no tuning by task."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from vaerl.policies.running import RunningMoments


class ReturnScale(nn.Module):
    """Divides rewards by the deviation of the discounted return G_t = γ G_{t−1} + r_t.

    The moments are those of all G so far, as in VecNormalize; rewards are divided when they are
    used, so that old ones follow the scale of today. G begins at 0 with each episode and each call
    of `begin`.

    Args:
        gamma: γ.

    >>> from torch import tensor
    >>> scale = ReturnScale(0.5)
    >>> for reward in (2.0, 3.0):
    ...     scale.update(np.array([reward]), np.array([False]))
    >>> scale(tensor([1.0]))  # G was 2 and 4
    tensor([1.])
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma, self.moments = gamma, RunningMoments(())
        self.begin()

    def begin(self) -> None:
        """Forget the returns of unfinished episodes, not the moments."""
        self._returns: np.ndarray | float = 0.0

    def update(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Take in one step of each environment, ``(E,)``."""
        returns = self.gamma * self._returns + rewards
        self.moments.update(returns)
        self._returns = np.where(dones, 0.0, returns)

    def forward(self, rewards: Tensor) -> Tensor:
        """r / (deviation + 1e-8), of the shape and type of r."""
        return rewards / (self.moments.running_var.sqrt() + 1e-8).to(rewards.dtype)
