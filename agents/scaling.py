"""Rewards in units of the deviation of the return, so that α and critics need no tuning by task."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vaerl.agents.common import Agent
from vaerl.agents.schedules import take_schedules
from vaerl.densities.options import check_flag
from vaerl.policies.running import CLIP, RunningMoments


class Discounted:
    """The discounted returns of the unfinished episodes, G_t = γ G_{t−1} + r_t."""

    gamma: float

    def begin(self) -> None:
        """Forget them."""
        self._returns: np.ndarray | float = 0.0

    def advance(self, rewards: np.ndarray, dones: np.ndarray) -> np.ndarray:
        """G ``(E,)`` after one step of each environment."""
        returns = self.gamma * self._returns + rewards
        self._returns = np.where(dones, 0.0, returns)
        return returns


class ReturnScale(Discounted, nn.Module):
    """Divides rewards by the deviation of the discounted return G.

    As in VecNormalize, the moments are those of all G so far, and results stay within ±`CLIP`: as
    long as all G are equal, as after the first reward, the deviation is 0. While all are 0, rewards
    stay as they are, so that a model's small errors are not blown up before a first real reward.
    G begins at 0 with each episode and each call of `begin`.

    Args:
        gamma: γ.
        support: largest return that a critic can name. If it is finite, rewards are divided by
            max |G| / support where that is more, so that no return leaves it (FlashSAC 2026).

    >>> from torch import tensor
    >>> scale = ReturnScale(0.5)
    >>> for reward in (2.0, 3.0):
    ...     scale.update(np.array([reward]), np.array([False]))
    >>> scale(tensor([1.0]))  # G was 2 and 4
    tensor([1.])
    """

    largest: Tensor

    def __init__(self, gamma: float, support: float = math.inf) -> None:
        super().__init__()
        self.gamma, self.support, self.moments = gamma, support, RunningMoments(())
        if self.bounded:
            self.register_buffer("largest", torch.zeros((), dtype=torch.float64))
        self.begin()

    @property
    def bounded(self) -> bool:
        """Whether critics can name returns of some size only."""
        return self.support < math.inf

    def update(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Take in one step of each environment, ``(E,)``."""
        returns = self.advance(rewards, dones)
        self.moments.update(returns)
        if self.bounded:
            self.largest.clamp_(min=float(np.abs(returns).max()))

    def forward(self, rewards: Tensor) -> Tensor:
        """r / (unit + 1e-8) within ±`CLIP`, of the shape and type of r; the unit is the deviation,
        or max |G| / support if that is more, or 1 before a first reward."""
        unit = self.moments.running_var.sqrt()
        if self.bounded:
            unit = torch.maximum(unit, self.largest / self.support)
        nothing = (unit == 0.0) & (self.moments.running_mean == 0.0)
        unit = torch.where(nothing, torch.ones_like(unit), unit)
        return (rewards / (unit + 1e-8).to(rewards.dtype)).clamp(-CLIP, CLIP)


class SupportWatch(Discounted):
    """Warns once if the discounted return leaves the values that a critic can name.

    Args:
        gamma: γ.
        support: the largest of those values.
    """

    def __init__(self, gamma: float, support: float) -> None:
        self.gamma, self.support = gamma, support
        self.warned = False
        self.begin()

    def update(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Take in one step of each environment, ``(E,)``."""
        largest = float(np.abs(self.advance(rewards, dones)).max())
        if largest > self.support and not self.warned:
            self.warned = True
            warnings.warn(
                f"critic: got a discounted return of size {largest:g}, but its values end at "
                f"{self.support:g} and targets are cut there; use scale_rewards=True or a larger "
                "critic_options['support']",
                stacklevel=2,
            )


class Scales(Agent):
    """Mixin of agents with `scale_rewards`: the scale is saved and resumed with them.

    Their schedules may be texts.
    """

    carried: ClassVar[tuple[str, ...]] = ("return_scale",)
    gathers_statistics = True
    scale_rewards: bool
    gamma: float
    policy: Any
    return_scale: ReturnScale | None = None
    """What divides rewards, if anything does."""
    _watch: SupportWatch | None = None

    @property
    def support(self) -> float:
        """The largest value that the critics can name."""
        parts = getattr(self.policy, "critic_parts", None)
        return parts.support if parts is not None and parts.bins else math.inf

    def _setup_model(self) -> None:
        check_flag("scale_rewards", self.scale_rewards)
        take_schedules(self)
        super()._setup_model()
        self.return_scale = ReturnScale(self.gamma, self.support) if self.scale_rewards else None
        watched = not self.scale_rewards and self.support < math.inf
        self._watch = SupportWatch(self.gamma, self.support) if watched else None

    def _begin_episodes(self) -> None:
        super()._begin_episodes()
        for sees in (self.return_scale, self._watch):
            if sees is not None:
                sees.begin()

    def _see_rewards(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Take in one step of each environment, ``(E,)``."""
        for sees in (self.return_scale, self._watch):
            if sees is not None:
                sees.update(rewards, dones)

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
        return [*super()._excluded_save_params(), "return_scale", "_watch"]  # type: ignore[misc]
