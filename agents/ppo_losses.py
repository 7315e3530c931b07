"""The loss of PPO's sleep phase; the clipped surrogate and the value loss are SB3's."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaerl.bounds import defensive_log_density
from vaerl.densities.chain import Path, sum_layers
from vaerl.densities.cvae import CVAE
from vaerl.densities.squash import log_det_tanh


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
