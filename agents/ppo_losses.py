"""What PPO minimises: clipped surrogate and value loss with their slopes, and the sleep phase.

The slopes are written out, in numpy: of an update of a small network a good part of the time would
go into autograd's small operations on these few numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaerl.bounds import defensive_log_density
from vaerl.densities.chain import Path, sum_layers
from vaerl.densities.cvae import CVAE
from vaerl.densities.squash import log_det_tanh

Array = np.ndarray


def policy_slopes(
    log_prob: Array, old_log_prob: Array, advantages: Array, clip_range: float
) -> tuple[Array, dict[str, float]]:
    """Slope of the clipped surrogate −mean min(A ρ, A clip(ρ)), ρ = π/π_old, in each log π.

    −A ρ / B where the unclipped term is the lower one, 0 where the clipped one is (Schulman et al.
    2017). Numbers to log beside it: policy_gradient_loss, clip_fraction and approx_kl, the mean of
    ρ − 1 − log ρ (Schulman 2020).

    >>> policy_slopes(np.log([1.0, 2.0]), np.zeros(2), np.ones(2), 0.2)[0]
    array([-0.5, -0. ])
    """
    log_ratio = log_prob - old_log_prob
    ratio = np.exp(log_ratio)
    excess = ratio - 1.0
    gain, clipped = advantages * ratio, advantages * (1.0 + excess.clip(-clip_range, clip_range))
    slopes = np.where(gain > clipped, 0.0, gain) / -len(gain)
    return slopes, {
        "policy_gradient_loss": -np.minimum(gain, clipped).mean().item(),
        "clip_fraction": np.count_nonzero(np.abs(excess) > clip_range) / len(excess),
        "approx_kl": (excess - log_ratio).mean().item(),
    }


def value_slopes(
    values: Array, old_values: Array, returns: Array, clip_range: float | None
) -> tuple[Array, float]:
    """Slope of mean (returns − V)² in each value, ``(B,)``, and that mean; V is the value itself,
    or the old one and a clipped change of it.

    >>> value_slopes(np.array([1.0, 3.0]), np.zeros(2), np.zeros(2), 2.0)
    (array([1., 0.]), 2.5)
    """
    if clip_range is None:
        error = inside = values - returns
    else:
        change = values - old_values
        error = old_values + change.clip(-clip_range, clip_range) - returns
        inside = np.where(np.abs(change) > clip_range, 0.0, error)
    return inside * (2.0 / len(error)), np.square(error).mean().item()


def clip_gradients(parameters: Sequence[Tensor], most: float) -> None:
    """As `torch.nn.utils.clip_grad_norm_`, in fewer operations: the joint norm of one long row."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.cat([grad.flatten() for grad in grads]).norm()
    torch._foreach_mul_(grads, torch.clamp(most / (norm + 1e-6), max=1.0))


class Dreams(NamedTuple):
    """Samples of a density with their latents, and what the density itself says of them."""

    context: Tensor
    x: Tensor
    """Before the squash."""
    path: Path
    log_prior: Tensor
    """log p(z | c), nats."""
    log_joint: Tensor
    """log p(x, z | c), nats."""

    def steps(self) -> list[Dreams]:
        """Those of each entry of the first dimension."""
        paths = zip(*(layer.unbind() for layer in self.path), strict=True)
        rest = zip(self.context, self.x, paths, self.log_prior, self.log_joint, strict=True)
        return [Dreams(*parts) for parts in rest]


@torch.no_grad()
def dream(density: CVAE, context: Tensor, generator: torch.Generator | None = None) -> Dreams:
    """One sample of the density at each context ``(*batch, C)``."""
    chain: Any = density.chain
    p = chain.generate(context)
    path = chain.sample_prior(p, (), generator)
    decoder = chain.decode(p, path)
    x = decoder.rsample((), generator)
    log_prior = sum_layers(chain.log_prior_layers(p, path))
    log_joint = decoder.log_prob(x) + log_prior
    if density.squash:
        log_joint = log_joint - log_det_tanh(x)
    return Dreams(context, x, path, log_prior, log_joint)


def sleep_loss(density: CVAE, dreams: Dreams) -> Tensor:
    """mean U_0 over own samples: the sleep phase of wake-sleep (Hinton et al. 1995).

    U_0 = log p(x, z_0 | c) − log r(z_0 | x, c) with the generating path z_0 and the defensive
    proposal r. Own paths are held fixed, so its gradient is that of KL(p(z | x, c) ‖ r), which
    makes the recognition network cover the posterior.
    """
    chain = density.chain
    q = chain.recognise(dreams.context)
    first = chain.recognition[0](dreams.x, q[0])
    log_q = sum_layers(chain.log_q_layers(q, first, dreams.path))
    log_r = defensive_log_density(dreams.log_prior, log_q, density.defensive)
    return (dreams.log_joint - log_r).mean()
