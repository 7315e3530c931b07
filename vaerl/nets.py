"""Networks: multi-layer perceptrons and FiLM residual blocks, and the smooth range of a log σ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}

VECTOR = 16
"""Floats in a vector register."""
FILM_SCALE = 100.0
"""Largest size of a FiLM scale, far beyond those of trained networks."""


def mlp(
    in_dim: int, hidden: Sequence[int], out_dim: int | None = None, activation: str = "silu"
) -> nn.Sequential:
    """Linear layers, activated after each hidden one; `out_dim` adds a linear output layer."""
    layers: list[nn.Module] = []
    width = in_dim
    for size in hidden:
        layers += [nn.Linear(width, size), ACTIVATIONS[activation]()]
        width = size
    if out_dim is not None:
        layers.append(nn.Linear(width, out_dim))
    return nn.Sequential(*layers)


def smooth_range(raw: Tensor, low: float, high: float) -> Tensor:
    """Map R to (low, high) by low + (high − low)·sigmoid, keeping a gradient everywhere.

    The argument is scaled and shifted so that values near 0 stay what they are if 0 lies inside the
    range; a freshly initialised log σ is then about 0.

    >>> smooth_range(torch.tensor([0.0, 100.0]), -7.0, 2.0)
    tensor([0., 2.])
    """
    slope, offset, width, low = smooth_range_terms(low, high)
    return torch.sigmoid(slope * raw + offset) * width + low


def smooth_range_terms(low: float, high: float) -> tuple[float, float, float, float]:
    """Slope, offset, width and low of `smooth_range`: sigmoid(slope·raw + offset)·width + low."""
    width = high - low
    if low < 0.0 < high:
        share = -low / width
        return 1.0 / (width * share * (1.0 - share)), math.log(share / (1.0 - share)), width, low
    return 4.0 / width, 0.0, width, low


def log_shares(logits: Tensor) -> Tensor:
    """log-softmax over the last dimension, that of the mixture components.

    A few components are moved to the front first: over a last dimension shorter than a vector
    register torch's softmax takes up to eight times as long.

    >>> log_shares(torch.zeros(3, 2)).exp()[0]
    tensor([0.5000, 0.5000])
    """
    if logits.shape[-1] < VECTOR:
        return functional.log_softmax(logits.movedim(-1, 0), dim=0).movedim(0, -1)
    return functional.log_softmax(logits, dim=-1)


class FiLMNet(nn.Module):
    """A residual network whose blocks are modulated by a context (FiLM, Perez et al. 2018).

    h ← W inputs;   h ← h + V_b silu(γ_b(c) ⊙ (U_b h) + β_b(c)) for each block b, γ_b ≈ 1 at first;
    out ← W' silu(h).

    The size of γ_b ends at `FILM_SCALE`, so that the output grows with a large context as that of a
    perceptron does, and not with its power b + 1.

    `condition` computes (γ, β) once per context and `forward` reuses them for any leading sample
    dimensions: K latent samples cost one pass over the context.

    Args:
        in_dim: size of the inputs that run through the blocks.
        context_dim: size of the context.
        out_dim: size of the output.
        hidden: width of the blocks.
        blocks: number of blocks.
        input_gain: factor on the initial input weights; above 1 the inputs matter from the start.
    """

    def __init__(
        self,
        in_dim: int,
        context_dim: int,
        out_dim: int,
        hidden: int = 64,
        blocks: int = 2,
        input_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.hidden, self.blocks = hidden, blocks
        self.film = nn.Linear(context_dim, (2 * blocks + 1) * hidden)
        self.enter = nn.Linear(in_dim, hidden)
        self.up = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, out_dim)
        with torch.no_grad():
            self.enter.weight.mul_(input_gain)
            for scale in self.film.bias.split(hidden)[1::2]:
                scale += 1.0

    def condition(self, context: Tensor) -> Tensor:
        """Shift and scale of every block, ``(*batch, (2·blocks + 1)·hidden)``."""
        return self.film(context)

    def forward(self, inputs: Tensor, film: Tensor) -> Tensor:
        """Output ``sample_shape + batch + (out_dim,)`` for inputs ``sample_shape + batch +
        (in_dim,)``."""
        parts = film.split(self.hidden, dim=-1)
        h = self.enter(inputs) + parts[0]
        for b, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            scale, shift = parts[2 * b + 1], parts[2 * b + 2]
            scale = scale.clamp(-FILM_SCALE, FILM_SCALE)
            h = h + down(functional.silu(torch.addcmul(shift, up(h), scale)))
        return self.leave(functional.silu(h))
