"""Layers of N critics side by side: every tensor is ``(N, B, F)``, critics × rows × features.

`batch=True` normalises a batch by its own statistics and moves the running ones; without it the
running ones serve, whatever the mode of the module.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# vaerl/native/renorm.h and residual.h hold copies of these constants and of EXPANSION.
MOMENTUM, EPS = 0.01, 1e-3
RENORM_AFTER, R_MAX, D_MAX, LEAST = 100_000, 3.0, 5.0, 1e-12
WIDE = 64
"""Features on both sides from which products in bfloat16 pay."""
EXPANSION = 4
"""Width of the hidden layer of a residual block, in widths of the block."""


class Linears(nn.Module):
    """N linear layers: y_i = x_i W_iᵀ + b_i.

    Args:
        critics: N.
        inputs, outputs: features.
        bias: whether there is b.
        orthogonal: start from orthogonal W with gain √2, instead of as `torch.nn.Linear`.
    """

    projected_for = "unit_weights"
    """The part of a critic that asks for `project_`."""
    in_bfloat16 = False
    """Whether factors and results of the product are rounded to bfloat16."""

    def __init__(
        self, critics: int, inputs: int, outputs: int, bias: bool = True, orthogonal: bool = False
    ) -> None:
        super().__init__()
        made = [nn.Linear(inputs, outputs) for _ in range(critics)]
        if orthogonal:
            for layer in made:
                nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
                nn.init.zeros_(layer.bias)
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in made]))
        bias_start = torch.stack([layer.bias.detach() for layer in made]).unsqueeze(1)
        self.bias = nn.Parameter(bias_start) if bias else None

    def forward(self, x: Tensor, batch: bool = False) -> Tensor:
        """``(N, B, outputs)``."""
        if self.in_bfloat16:
            found = torch.bmm(x.bfloat16(), self.weight.bfloat16().mT).float()
            return found if self.bias is None else found + self.bias
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias, x, self.weight.mT)

    @property
    def wide(self) -> bool:
        """Whether products in bfloat16 pay."""
        return min(self.weight.shape[1:]) >= WIDE

    @torch.no_grad()
    def project_(self) -> None:
        """Scale the weights into each unit to length 1."""
        self.weight.div_(self.weight.norm(dim=2, keepdim=True).clamp_min(1e-12))


class _Scaled(nn.Module):
    """A scale of each feature, behind a normalisation."""

    projected_for = "unit_norms"

    def __init__(self, critics: int, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(critics, 1, features))

    @torch.no_grad()
    def project_(self) -> None:
        """Scale all parameters together to length √features."""
        parts: list[Tensor] = [*self.parameters()]
        length = torch.cat(parts, dim=2).norm(dim=2, keepdim=True).clamp_min(1e-12)
        for part in parts:
            part.mul_(math.sqrt(part.shape[2]) / length)


class _Affine(_Scaled):
    """Scale and shift of each feature, behind a normalisation."""

    def __init__(self, critics: int, features: int) -> None:
        super().__init__(critics, features)
        self.shift = nn.Parameter(torch.zeros(critics, 1, features))


class LayerNorms(_Affine):
    """(x − mean) / deviation over the features of a row."""

    def forward(self, x: Tensor, batch: bool = False) -> Tensor:
        """Of the shape of x."""
        return torch.addcmul(self.shift, F.layer_norm(x, x.shape[2:]), self.scale)


class RMSNorms(_Scaled):
    """x / √mean(x²) over the features of a row."""

    def forward(self, x: Tensor, batch: bool = False) -> Tensor:
        """Of the shape of x."""
        return F.rms_norm(x, x.shape[2:], eps=1e-6) * self.scale


class BatchNorms(_Affine):
    """(x − mean) / √(variance + ε) over the rows of a batch (Ioffe & Szegedy 2015)."""

    unbiased = False
    """Whether the variance that divides counts B − 1 rows."""
    running_mean: Tensor
    running_var: Tensor
    steps: Tensor

    def __init__(self, critics: int, features: int) -> None:
        super().__init__(critics, features)
        self.register_buffer("running_mean", torch.zeros(critics, 1, features))
        self.register_buffer("running_var", torch.ones(critics, 1, features))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: Tensor, batch: bool = False) -> Tensor:
        """Of the shape of x."""
        if batch:
            return self._normalise(x)
        scale = self.scale * (self.running_var + EPS).rsqrt()
        return torch.addcmul(self.shift - self.running_mean * scale, x, scale)

    def _normalise(self, x: Tensor) -> Tensor:
        """By the statistics of this batch; torch's fused form, critic by critic."""
        rows = x.shape[1]
        share = 1.0 - 1.0 / rows if self.unbiased else 1.0
        self.steps += 1
        return torch.stack(
            [
                F.batch_norm(x_i, mean, var, scale, shift, True, MOMENTUM, EPS * share)
                for x_i, mean, var, scale, shift in zip(
                    x,
                    self.running_mean[:, 0],
                    self.running_var[:, 0],
                    self.scale[:, 0] * math.sqrt(share),
                    self.shift[:, 0],
                    strict=True,
                )
            ]
        )


class BatchRenorms(BatchNorms):
    """Batch normalisation that turns into renormalisation (Ioffe 2017).

    After `RENORM_AFTER` batches they are corrected by r and d towards the running statistics, both
    clipped, as sb3-contrib does in CrossQ.
    """

    unbiased = True

    def _normalise(self, x: Tensor) -> Tensor:
        if int(self.steps) <= RENORM_AFTER:
            return super()._normalise(x)
        mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True)
        spread = (self.running_var + EPS).sqrt()
        r = ((var + EPS).sqrt() / spread).detach().clamp(1.0 / R_MAX, R_MAX)
        d = ((mean - self.running_mean) / spread).detach().clamp(-D_MAX, D_MAX)
        deviation = var.clamp_min(LEAST).sqrt()  # √ has no slope at 0, where a unit is dead
        deviation = torch.where(var > LEAST, deviation, 0.0)
        centre, width = mean - d * deviation / r, (var / r.square() + EPS).sqrt()
        with torch.no_grad():
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(var, MOMENTUM)
            self.steps += 1
        return torch.addcmul(self.shift, (x - centre) / width, self.scale)


class Activations(nn.Module):
    """An activation among the layers."""

    def __init__(self, function: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.function = function()

    def forward(self, x: Tensor, batch: bool = False) -> Tensor:
        """Of the shape of x."""
        return self.function(x)


class Stack(nn.Sequential):
    """Layers one behind the other."""

    def forward(self, x: Tensor, batch: bool = False) -> Tensor:
        """``(N, B, outputs)``."""
        for layer in self:
            x = layer(x, batch)
        return x


class Residuals(Stack):
    """x + layers(x)."""

    def forward(self, x: Tensor, batch: bool = False) -> Tensor:
        """Of the shape of x."""
        return x + super().forward(x, batch)


NORMS: dict[str, type[_Scaled] | None] = {
    "none": None,
    "layer": LayerNorms,
    "rms": RMSNorms,
    "batch": BatchNorms,
    "renorm": BatchRenorms,
}
