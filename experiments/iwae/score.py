"""Scores of a trained cell of the IWAE table: test NLL, active units, the bound against k."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaerl.densities.cvae import CVAE
from vaerl.experiments.iwae.cell import (
    SCORE_SECONDS,
    SMALLER_IMAGES,
    SMALLER_K,
    Autoencoder,
)
from vaerl.experiments.iwae.mnist import Digits, binarise
from vaerl.experiments.iwae.networks import nothing

TEST_SEED = 7_919  # added to the seed of the cell: the binarisation of the test images
ROWS = {"cpu": 5_000, "cuda": 500_000}  # latent samples at once
UNIT_IMAGES = 500  # training images over which a unit has to move
THRESHOLD = 0.01


def score(
    density: CVAE, digits: Digits, cell: Autoencoder, tick: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """NLL = −mean L_K over the test images in nats, its standard error, active units by layer.

    `tick` gets the cost of every piece. The images are binarised once, by the seed
    of the cell.
    """
    device = device_of(density)
    generator = torch.Generator(device).manual_seed(cell.seed + TEST_SEED)
    x = binarise(digits.test[: cell.test_images].to(device), generator)
    whole = lower_bounds(density, x, cell.test_k, generator, tick)
    few = x[:SMALLER_IMAGES]
    smaller = {
        str(k): lower_bounds(density, few, k, generator, tick).mean().item()
        for k in SMALLER_K
        if k < cell.test_k
    }
    variances = unit_variances(density, digits.train[:UNIT_IMAGES], generator)
    return {
        "nll": -whole.mean().item(),
        "nll_error": whole.std().item() / math.sqrt(len(whole)),
        "bound_by_k": smaller | {str(cell.test_k): whole[:SMALLER_IMAGES].mean().item()},
        "active": [int((layer > THRESHOLD).sum()) for layer in variances],
        "unit_variances": [layer.tolist() for layer in variances],
    }


def device_of(density: CVAE) -> torch.device:
    """Where the parameters lie."""
    return next(density.parameters()).device


@torch.no_grad()
def lower_bounds(
    density: CVAE,
    x: Tensor,
    k: int,
    generator: torch.Generator,
    tick: Callable[[float], None] | None = None,
    context: Tensor | None = None,
) -> Tensor:
    """L_k of each image ``(n,)`` in float64, a few images at a time; `context` is one for each."""
    parts = []
    each = SCORE_SECONDS[len(density.latent_dims)]
    size = max(1, ROWS[x.device.type] // k)
    given = nothing(len(x), x.device) if context is None else context
    for few, its in zip(x.split(size), given.split(size), strict=True):
        value = density(its)
        parts.append(value.log_prob_bounds(few, k, generator=generator).lower.double())
        if tick is not None:
            tick(each * k * len(few))
    return torch.cat(parts)


@torch.no_grad()
def unit_variances(density: CVAE, grey: Tensor, generator: torch.Generator) -> list[Tensor]:
    """A_u = Var_x(E_q[u | x]) of the units of each layer, h_1 first (Burda et al. 2016).

    Above h_1 the mean is the one given one sample of the layer below, as in their code.
    """
    x = binarise(grey.to(device_of(density)), generator)
    chain = density.chain
    _, laws = chain.infer(chain.recognise(nothing(len(x), x.device)), x, (), generator)
    return [law.moments()[0].var(0) for law in laws]


@torch.no_grad()
def pictures(
    density: CVAE, digits: Digits, cell: Autoencoder, count: int = 40
) -> dict[str, Tensor]:
    """The images of a cell, each ``(count, 784)`` in [0, 1].

    "real" test images, "samples" p(x | h_1) of prior paths, "binary" the test images as the model
    sees them, "again" their reconstructions p(x | h_1) with h_1 ~ q(h_1 | x).
    """
    device = device_of(density)
    generator = torch.Generator(device).manual_seed(cell.seed)
    chain = density.chain
    real = digits.test[:count].to(device)
    binary = binarise(real, generator)
    p = chain.generate(nothing(len(real), device))
    path, _ = chain.infer(chain.recognise(nothing(len(real), device)), binary, (), generator)
    own = chain.sample_prior(p, (), generator)
    drawn = {
        "real": real,
        "binary": binary,
        "samples": chain.decode(p, own).moments()[0],
        "again": chain.decode(p, path).moments()[0],
    }
    return {name: images.cpu().contiguous() for name, images in drawn.items()}
