"""What keeps the ways of a clone while reward improves it: two terms of PPO's loss.

Both are differentiable, one number in nats a state.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vaerl.densities import ConditionalValue


def clone_divergence(
    policy: ConditionalValue, clone: ConditionalValue, generator: torch.Generator | None = None
) -> Tensor:
    """KL(clone ‖ policy) ``batch``, unbiased: log p_clone(a) − log π(a) at one draw a of the clone.

    This side of the divergence is large wherever the clone goes and the policy no longer does.
    Both log-densities are exact; of latent densities they are taken over the same frozen codes.
    """
    actions = clone.sample((), generator)
    return clone.log_prob(actions) - policy.log_prob(actions)


def code_information(policy: Any, generator: torch.Generator | None = None) -> Tensor:
    """I(k; a | s) = H(a | s) − H(a | k, s) of a mixture over codes k, ``batch``; at most log K.

    What an action tells of the code that it came from: 0 once all codes do the same. H(a | s) is
    estimated by one draw, H(a | k, s) is exact.
    """
    mixture = policy.mixture
    size = mixture.mean.shape[-1]
    within = (mixture.log_weights.exp() * mixture.log_sigma.sum(-1)).sum(-1)
    within = within + 0.5 * size * (1.0 + math.log(2.0 * math.pi))
    return -policy.log_prob(policy.rsample((), generator)) - within
