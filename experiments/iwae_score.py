"""What a trained cell of the IWAE table is worth: test NLL, active units, the bound against k."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaerl.densities.cvae import CVAE
from vaerl.experiments.iwae_cell import Cell, passes
from vaerl.experiments.iwae_networks import nothing
from vaerl.experiments.mnist import Digits, binarise

TEST_SEED = 7_919  # added to the seed of the cell: the binarisation of the test images
SMALLER_K = (1, 5, 50, 500)
SMALLER_IMAGES = 1_000  # whose bounds at the smaller k are drawn against k
ROWS = 5_000  # latent samples at once
UNIT_IMAGES = 500  # training images over which a unit has to move
THRESHOLD = 0.01


def score(
    density: CVAE, digits: Digits, cell: Cell, tick: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """NLL = −mean L_K over the test images in nats, its standard error, active units by layer.

    `tick` gets the GFLOP of every piece. The images are binarised once, by the seed of the cell.
    """
    generator = torch.Generator().manual_seed(cell.seed + TEST_SEED)
    x = binarise(digits.test[: cell.test_images], generator)
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


def score_gflop(density: CVAE, cell: Cell, images: int) -> float:
    """2 FLOP per weight, image and sample."""
    images = min(images, cell.test_images)
    few = sum(k for k in SMALLER_K if k < cell.test_k) * min(images, SMALLER_IMAGES)
    return 2e-9 * passes(density, 1) * (images * cell.test_k + few)


@torch.no_grad()
def lower_bounds(
    density: CVAE,
    x: Tensor,
    k: int,
    generator: torch.Generator,
    tick: Callable[[float], None] | None = None,
) -> Tensor:
    """L_k of each image ``(n,)`` in float64, a few images at a time."""
    parts = []
    for few in x.split(max(1, ROWS // k)):
        value = density(nothing(len(few)))
        parts.append(value.log_prob_bounds(few, k, generator=generator).lower.double())
        if tick is not None:
            tick(2e-9 * passes(density, 1) * k * len(few))
    return torch.cat(parts)


@torch.no_grad()
def unit_variances(density: CVAE, grey: Tensor, generator: torch.Generator) -> list[Tensor]:
    """A_u = Var_x(E_q[u | x]) of the units of each layer, h_1 first (Burda et al. 2016).

    Above h_1 the mean is the one given one sample of the layer below, as in their code.
    """
    x = binarise(grey, generator)
    chain = density.chain
    _, laws = chain.infer(chain.recognise(nothing(len(x))), x, (), generator)
    return [law.moments()[0].var(0) for law in laws]


@torch.no_grad()
def pictures(density: CVAE, digits: Digits, cell: Cell, count: int = 40) -> dict[str, Tensor]:
    """What is drawn of a cell, each ``(count, 784)`` in [0, 1].

    "real" test images, "samples" p(x | h_1) of prior paths, "binary" the test images as the model
    sees them, "again" their reconstructions p(x | h_1) with h_1 ~ q(h_1 | x).
    """
    generator = torch.Generator().manual_seed(cell.seed)
    chain = density.chain
    real = digits.test[:count]
    binary = binarise(real, generator)
    p = chain.generate(nothing(len(real)))
    path, _ = chain.infer(chain.recognise(nothing(len(real))), binary, (), generator)
    own = chain.sample_prior(p, (), generator)
    return {
        "real": real.contiguous(),
        "binary": binary,
        "samples": chain.decode(p, own).moments()[0],
        "again": chain.decode(p, path).moments()[0],
    }
