"""The density of a policy in the units of its actions, ready to be drawn.

A latent density has no exact log-density, and its lower bound is as good as the recognition
network. For a picture there is something better: its mean over fixed codes,

    p̂(a | s) = (1/K) Σ_k p(a | z_k, s),    z_k spread over the prior, the same for every a,

which is normalised, smooth in a, and needs no recognition network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaerl.densities.base import Bounds

CODES = 1024


class PolicyDensity:
    """p(a | s) at S states, for actions a in the units of the environment.

    The policy's density is over x in units of the box, a = low + (x + 1) (high − low) / 2; then
    log p(a) = log p(x) − Σ_d log((high_d − low_d) / 2).

    Attributes:
        codes: K of the mean that stands in for a latent density, 0 where the density is exact.
        exact: whether `log_prob` can be called: it cannot for a density without codes to freeze.
    """

    def __init__(self, agent: Any, observations: Any) -> None:
        policy = agent.policy
        head = getattr(policy, "actor", policy)
        policy.set_training_mode(False)
        tensors, _ = policy.obs_to_tensor(observations)
        with torch.no_grad():
            context = head.context(tensors)
            self._value = self._drawn = head.density(context)
            self.codes = 0
            if not self._value.exact and hasattr(head.density, "freeze"):
                codes = head.density.draw_codes(CODES, seed=0).to(context)
                self._drawn, self.codes = head.density.freeze(codes)(context), CODES
        self.exact: bool = self._drawn.exact
        self.batch_shape, self.event_shape = self._value.batch_shape, self._value.event_shape
        low, high = agent.action_space.low.ravel(), agent.action_space.high.ravel()
        self._middle = torch.as_tensor((low + high) / 2).to(context)
        self._half = torch.as_tensor((high - low) / 2).to(context)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Actions, ``sample_shape + (S, D)``."""
        return self._middle + self._half * self._value.sample(sample_shape)

    def log_prob(self, actions: Tensor) -> Tensor:
        """log p(a | s), or the logarithm of its mean over codes, in nats."""
        x = (actions - self._middle) / self._half
        return self._drawn.log_prob(x) - self._half.log().sum()

    def log_prob_bounds(self, actions: Tensor, k: int) -> Bounds:
        """Bounds on log p(a | s), for a density without codes to freeze."""
        lower, upper = self._value.log_prob_bounds((actions - self._middle) / self._half, k=k)
        shift = self._half.log().sum()
        return Bounds(lower - shift, None if upper is None else upper - shift)
