"""The sleep phase of wake-sleep: the recognition network learns from the density's own samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vaerl.bounds import defensive_log_density
from vaerl.densities.chain import LatentChain, sum_layers
from vaerl.densities.noise import Noise


def sleep_losses(
    chain: LatentChain,
    defensive: float,
    contexts: Tensor,
    generator: Noise = None,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Tensor]:
    """mean U_0 over own samples (Hinton et al. 1995), one 0-d loss for each of T steps, in nats.

    U_0 = log p(x, z_0 | c) − log r(z_0 | x, c) with the generating path z_0 and the defensive
    proposal r. Own paths are held fixed, so its gradient is that of KL(p(z | x, c) ‖ r), which
    makes the recognition network cover the posterior. All samples are drawn at the start, so an
    optimiser may step on the recognition network between the losses.

    Args:
        chain: p and q.
        defensive: share of the prior in r.
        contexts: ``(T, B, C)``.
        change: log |dx'/dx| of a function x' of x; the losses are then for x'.
    """
    with torch.no_grad():
        p = chain.generate(contexts)
        path = chain.sample_prior(p, (), generator)
        decoder = chain.decode(p, path)
        x = decoder.rsample((), generator)
        log_prior = sum_layers(chain.log_prior_layers(p, path))
        log_joint = decoder.log_prob(x) + log_prior
        if change is not None:
            log_joint = log_joint - change(x)
    for t, context in enumerate(contexts):
        own = tuple(layer[t] for layer in path)
        q = chain.recognise(context)
        log_q = sum_layers(chain.log_q_layers(q, chain.recognition[0](x[t], q[0]), own))
        log_r = defensive_log_density(log_prior[t], log_q, defensive)
        yield (log_joint[t] - log_r).mean()
