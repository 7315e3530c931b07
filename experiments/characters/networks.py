"""The CVAE that draws a character after an example: p(x | e), where e is another person's drawing.

    p(z | e) = N(μ(g(e)), diag σ(g(e))²);  p(x | z, e) = Bernoulli: [z, g(e)] → 200 → 200 → 784
    q(z | x, e): [x, g'(e)] → 200 → 200 → (μ, log σ) of 50;  g, g': 784 → 200 → 100, tanh

Sizes are those of the one-layer network of `vaerl.experiments.iwae.networks`, g is the context
network of p and g' that of q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaerl.densities.bernoulli import Bernoulli
from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import GaussianPrior
from vaerl.experiments.captions.rivals import ConditionedLayer, normal
from vaerl.experiments.iwae.mnist import PIXELS
from vaerl.experiments.iwae.networks import HIDDEN, LATENTS, start_as_published
from vaerl.nets import mlp

EXAMPLE = 100
"""Size of the embedding of an example."""


def build_pupil(objective: str, k: int, mean_image: Tensor, seed: int) -> CVAE:
    """The untrained density p(x | e) of images ``(n, 784)`` after grey examples ``(n, 784)``."""
    (latent,), wide = LATENTS[1], HIDDEN[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pixels = mlp(latent + EXAMPLE, (wide, wide), PIXELS, "tanh")
        encoder = mlp(PIXELS + EXAMPLE, (wide, wide), 2 * latent, "tanh")
        chain = LatentChain(
            GaussianPrior(EXAMPLE, latent),
            [ConditionedLayer(pixels, Bernoulli)],
            [ConditionedLayer(encoder, normal)],
            *(mlp(PIXELS, (wide, EXAMPLE), activation="tanh") for _ in range(2)),
        )
        start_as_published(chain, pixels, mean_image)
    return CVAE.from_chain(
        chain,
        context_dim=PIXELS,
        event_dim=PIXELS,
        latent_dims=(latent,),
        objective=objective,
        k=k,
        defensive=0.0,
    )
