"""Frozen codes of one rollout: they make a latent density exact while PPO compares old with new."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaerl.densities import ConditionalDensity
from vaerl.policies.noise import NoiseSource


class RolloutCodes(nn.Module):
    """K latent codes that stay fixed from the start of a rollout to the end of the updates on it.

    The codes and the mark that they were used are buffers: they move, save and load with the
    policy.

    Args:
        density: whose codes they are.
        count: number K of codes; some mode of four equal ones gets no code with probability about
            4·(3/4)^K.
        noise: where fresh codes come from.
        temperature: standard deviation of the codes' noise, in units of the prior's.
    """

    codes: Tensor
    used: Tensor

    def __init__(
        self,
        density: ConditionalDensity,
        count: int,
        noise: NoiseSource,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("codes", self._draw(density, count, noise))
        self.register_buffer("used", torch.zeros(()))

    def mark_used(self) -> None:
        """Mark the codes as used for updates: the next rollout draws fresh ones."""
        self.used.fill_(1.0)

    def refresh(self, density: ConditionalDensity, noise: NoiseSource) -> None:
        """Draw fresh codes if the present ones were used for updates, else keep them."""
        if self.used.item() > 0.5:
            self.codes.copy_(self._draw(density, len(self.codes), noise).to(self.codes))
            self.used.zero_()

    def _draw(self, density: ConditionalDensity, count: int, noise: NoiseSource) -> Tensor:
        codes = density.draw_codes(count, noise.next_seed())
        codes[:, 1:] *= self.temperature
        return codes
