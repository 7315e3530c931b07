"""Bernoulli laws for binary events and latents: a value, and the layer and prior that give it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities.base import IntractableError
from vaerl.densities.noise import Noise, Shape, uniform

BLOCK = 1 << 17
"""Numbers that the log-density processes at once: about a processor's cache."""


@dataclass(frozen=True)
class Bernoulli:
    """Π_d Bernoulli(x_d; σ(logits_d)) for x in {0, 1}^X, parameters ``(..., X)``.

    >>> law = Bernoulli(torch.zeros(3))
    >>> law.log_prob(torch.tensor([0.0, 1.0, 1.0])).exp()
    tensor(0.1250)
    """

    logits: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ_d x_d l_d − log(1 + e^{l_d}), in nats; the last dimension is summed.

        For x between 0 and 1 it is the negative cross-entropy. Half-precision logits are summed in
        float32.
        """
        logits, x = torch.broadcast_tensors(self.logits, x)
        result: Tensor = _LogProb.apply(torch.atleast_2d(logits), torch.atleast_2d(x))
        return result.reshape(logits.shape[:-1])

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """Draws ``sample_shape + logits.shape``, for calls under `torch.no_grad` only.

        Raises IntractableError if a gradient is needed: a binary draw has none.
        """
        if torch.is_grad_enabled() and self.logits.requires_grad:
            raise IntractableError(
                "rsample: Bernoulli draws have no pathwise gradient; "
                "call sample(), or draw under torch.no_grad()"
            )
        u = uniform((*sample_shape, *self.logits.shape), self.logits, generator)
        return (u < torch.sigmoid(self.logits)).to(self.logits.dtype)

    def detach(self) -> Bernoulli:
        """The same law without gradient."""
        return Bernoulli(self.logits.detach())

    def place(self, *numbers: Tensor) -> NoReturn:
        """Refused: the noise of a code is normal, and vaerl has no mixtures of Bernoulli laws."""
        raise IntractableError(
            "mode, freeze and value_given_codes need layers of normals, this one is Bernoulli"
        )

    at = equal_mixture = place

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each ``(..., X)``."""
        mean = torch.sigmoid(self.logits)
        return mean, (mean * (1.0 - mean)).sqrt()


class _LogProb(torch.autograd.Function):
    """Σ_d x l − softplus(l) with the backward x − σ(l), for l and x of one shape ``(n, …, X)``.

    Computed block by block along the first dimension, so that intermediate results stay in the
    processor's cache: half the time of the plain formula.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        sums = [
            torch.addcmul(functional.softplus(l), t, l, value=-1.0).sum(-1)
            for l, t in zip(*_blocks(logits, x), strict=True)
        ]
        return torch.cat(sums).neg_()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, x = ctx.saved_tensors
        weight = gradient.unsqueeze(-1)
        to_logits = torch.empty_like(logits, memory_format=torch.contiguous_format)
        parts = zip(
            *_blocks(logits, x),
            to_logits.split(_rows(logits)),
            weight.split(_rows(logits)),
            strict=True,
        )
        for l, t, place, w in parts:
            place.copy_((t - torch.sigmoid(l)).mul_(w))
        return to_logits, weight * logits if ctx.needs_input_grad[1] else None


def _rows(logits: Tensor) -> int:
    return max(1, BLOCK // max(1, logits[:1].numel()))  # there may be no rows


def _blocks(logits: Tensor, x: Tensor) -> tuple[Iterator[Tensor], Sequence[Tensor]]:
    """Both in blocks; logits of half precision are widened one block at a time."""
    half = logits.dtype in (torch.bfloat16, torch.float16)
    parts = logits.split(_rows(logits))
    return (l.float() if half else l for l in parts), x.split(_rows(logits))


class BernoulliLayer(nn.Module):
    """p(child | parent) = Bernoulli(σ(net(parent))), a layer of a `LatentChain` without context.

    Args:
        net: parent ``(..., P)`` → logits ``(..., child_dim)``.
        child_dim: size of the child.
    """

    def __init__(self, net: nn.Module, child_dim: int) -> None:
        super().__init__()
        self.net = net
        self.child_dim = child_dim

    def condition(self, context: Tensor) -> None:
        """Return None: the layer ignores the context."""

    def forward(self, parent: Tensor, conditioning: None) -> Bernoulli:
        """The child's law for each parent sample."""
        return Bernoulli(self.net(parent))


class BernoulliPrior(nn.Module):
    """p(h_L) = Bernoulli(σ(logits)), learned, the same for every context."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.logits = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, context: Tensor) -> Bernoulli:
        """The prior at each context."""
        return Bernoulli(self.logits.expand(*context.shape[:-1], self.latent_dim))
