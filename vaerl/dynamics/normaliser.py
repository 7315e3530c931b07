"""Standardisation of a model's inputs and targets, saved with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 1e-6
"""Standard deviations below this share of the mean's magnitude (or of 1) count as constant."""


class Normaliser(nn.Module):
    """z = (x − mean) / scale over the last dimension; the identity until it is fitted.

    >>> normaliser = Normaliser(1)
    >>> normaliser.fit(torch.tensor([[0.0], [2.0]]))
    >>> normaliser(torch.tensor([[2.0]]))
    tensor([[1.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def fit(self, x: Tensor, fixed: int = 0) -> None:
        """Take mean and standard deviation of rows ``(N, size)``, in float64.

        The last `fixed` columns stay as they are; a constant column is only shifted.
        """
        rows = x.double()
        mean, scale = rows.mean(0), rows.std(0, correction=0)
        constant = scale <= SMALLEST * torch.maximum(mean.abs(), torch.ones_like(mean))
        scale = torch.where(constant, torch.ones_like(scale), scale)
        if fixed:
            mean[-fixed:], scale[-fixed:] = 0.0, 1.0
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, x: Tensor) -> Tensor:
        """z of x, any leading shape."""
        return (x - self.mean) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """x of z."""
        return torch.addcmul(self.mean, z, self.scale)

    def log_scale(self) -> Tensor:
        """Σ log scale, 0-d: log p(z) − log p(x) for corresponding z and x, in nats."""
        return self.scale.log().sum()
