"""A Helmholtz machine: binary latents in two layers, where reparameterisation does not apply.

p(h_2) p(h_1 | h_2) p(x | h_1) and q(h_1 | x) q(h_2 | h_1), every factor Bernoulli(σ(W · + b))

wake-sleep   θ: log p(x, z), z ~ q(z | x), one sample;  φ: log q(z | x), (x, z) ~ p
             (Hinton, Dayan, Frey & Neal 1995)
rws          θ: Σ ŵ_i log p(x, z_i);  φ: Σ ŵ_i log q(z_i | x)      (Bornschein & Bengio 2015)
vimco        θ: the same;  φ: see `vaerl.experiments.gradients.estimators`
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from vaerl import bounds
from vaerl.densities.bernoulli import BernoulliLayer, BernoulliPrior
from vaerl.densities.chain import LatentChain, sum_layers
from vaerl.densities.cvae import CVAE
from vaerl.experiments.gradients.estimators import sample_paths, score_surrogate
from vaerl.experiments.iwae.mnist import Digits, binarise
from vaerl.experiments.iwae.networks import nothing
from vaerl.experiments.iwae.score import lower_bounds
from vaerl.names import check_name

METHODS = ("wake-sleep", "rws", "vimco")


def build_machine(sizes: tuple[int, ...], mean_image: Tensor, seed: int) -> CVAE:
    """The untrained machine with layers `sizes`, those of x first; pixels biased to their mean."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generative, recognition = [], []
        for below, above in pairwise(sizes):
            generative.append(BernoulliLayer(nn.Linear(above, below), below))
            recognition.append(BernoulliLayer(nn.Linear(below, above), above))
        chain = LatentChain(BernoulliPrior(sizes[-1]), generative, recognition)
        for part in chain.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
    with torch.no_grad():
        pixels = generative[0].net
        assert isinstance(pixels, nn.Linear), pixels
        pixels.bias.copy_(torch.logit(mean_image.clamp(0.001, 0.999)))
    return CVAE.from_chain(
        chain, context_dim=1, event_dim=sizes[0], latent_dims=sizes[1:], defensive=0.0
    )


def losses(
    density: CVAE, method: str, k: int, x: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What to descend, ``batch``, and the bound L_k there; one backward pass serves θ and φ.

    θ and φ share no parameter, so the sum of both objectives gives each its own gradient.
    """
    check_name("method", method, METHODS)
    chain, context = density.chain, nothing(len(x))
    k = 1 if method == "wake-sleep" else k
    log_p, log_q = sample_paths(chain, context, x, k, generator)
    log_w = (log_p - log_q).detach()
    weights = bounds.normalised_weights(log_w)
    decoder = (weights * log_p).sum(0)
    if method == "vimco":
        encoder = score_surrogate("vimco", log_p.detach(), log_q)
    elif method == "rws":
        encoder = (weights * log_q).sum(0)
    else:
        encoder = dream(density, len(x), generator)
    return -(decoder + encoder), bounds.iwae(log_w)


def dream(density: CVAE, count: int, generator: torch.Generator) -> Tensor:
    """log q(z | x) of the machine's own fantasies (x, z) ~ p: ``(count,)``."""
    chain, context = density.chain, nothing(count)
    with torch.no_grad():
        p = chain.generate(context)
        path = chain.sample_prior(p, (), generator)
        x = chain.decode(p, path).rsample((), generator)
    q = chain.recognise(context)
    return sum_layers(chain.log_q_layers(q, chain.recognition[0](x, q[0]), path))


def train_machine(
    method: str,
    digits: Digits,
    *,
    sizes: tuple[int, ...],
    k: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    test_images: int,
    test_k: int,
    tick: Callable[[int], None] = lambda epochs: None,
) -> tuple[CVAE, list[tuple[int, float]]]:
    """Train a machine; and its test NLL by L_{test_k} at the start, the end and thrice between.

    `tick` gets the number of epochs done, after every one.
    """
    density = build_machine(sizes, digits.train.mean(0), seed)
    optimiser = torch.optim.Adam(density.parameters(), learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    test = binarise(digits.test[:test_images], torch.Generator().manual_seed(seed + 1))
    marks = {round(epochs * part / 4) for part in range(5)}
    curve = []
    for epoch in range(epochs + 1):
        if epoch in marks:
            fixed = torch.Generator().manual_seed(seed + 2)
            curve.append((epoch, -lower_bounds(density, test, test_k, fixed).mean().item()))
        if epoch == epochs:
            break
        for rows in torch.randperm(len(digits.train), generator=generator).split(batch_size):
            x = binarise(digits.train[rows], generator)
            loss, _ = losses(density, method, k, x, generator)
            optimiser.zero_grad(set_to_none=True)
            loss.mean().backward()
            optimiser.step()
        tick(epoch + 1)
    return density, curve
