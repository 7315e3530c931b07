"""Rewards in units of the deviation of the return, so that α and critics need no tuning by task."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from vaerl.agents.common import Agent
from vaerl.densities.options import check_flag
from vaerl.policies.running import CLIP, RunningMoments


class ReturnScale(nn.Module):
    """Divides rewards by the deviation of the discounted return G_t = γ G_{t−1} + r_t.

    As in VecNormalize, the moments are those of all G so far, and results stay within ±`CLIP`: as
    long as all G are equal, as after the first step, the deviation is 0. G begins at 0 with each
    episode and each call of `begin`.

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
        """r / (deviation + 1e-8) within ±`CLIP`, of the shape and type of r."""
        scaled = rewards / (self.moments.running_var.sqrt() + 1e-8).to(rewards.dtype)
        return scaled.clamp(-CLIP, CLIP)


class Scales(Agent):
    """Mixin of agents with `scale_rewards`: the scale is saved and resumed with them."""

    carried: ClassVar[tuple[str, ...]] = ("return_scale",)
    gathers_statistics = True
    scale_rewards: bool
    gamma: float
    return_scale: ReturnScale | None = None
    """What divides rewards, if anything does."""

    def _setup_model(self) -> None:
        check_flag("scale_rewards", self.scale_rewards)
        super()._setup_model()
        self.return_scale = ReturnScale(self.gamma) if self.scale_rewards else None

    def _begin_episodes(self) -> None:
        super()._begin_episodes()
        if self.return_scale is not None:
            self.return_scale.begin()

    def _check_parameters(self, found: Collection[str], whole: bool) -> None:
        scaled = "return_scale" in found
        if scaled != self.scale_rewards and (scaled or whole):
            raise ValueError(
                f"scale_rewards: got {self.scale_rewards}, expected {scaled}, as it was saved"
            )
        super()._check_parameters(found, whole)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()  # type: ignore[misc]
        return [*names, *(["return_scale"] if self.scale_rewards else [])], variables

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "return_scale"]  # type: ignore[misc]
