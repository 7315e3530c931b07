"""Products of wide layers in bfloat16; everything else stays in float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

PRECISIONS = ("float32", "bf16")
WIDE = 128
"""Inputs and outputs from which a product in bfloat16 gains more than the casts around it cost.

The layers that give a density its means and scales are narrower, and so stay in float32."""


def product_dtype(layer: nn.Linear, precision: str) -> torch.dtype:
    """The type in which a layer's products run: bfloat16 where that is asked for and pays.

    >>> product_dtype(nn.Linear(256, 256), "bf16"), product_dtype(nn.Linear(256, 6), "bf16")
    (torch.bfloat16, torch.float32)
    """
    wide = min(layer.weight.shape) >= WIDE
    return torch.bfloat16 if precision == "bf16" and wide else layer.weight.dtype


def low_layers(module: nn.Module, precision: str) -> list[nn.Linear]:
    """The linear layers within `module` whose products run in bfloat16."""
    return [
        layer
        for layer in module.modules()
        if type(layer) is nn.Linear and product_dtype(layer, precision) is torch.bfloat16
    ]


@contextmanager
def low_products(layers: Iterable[nn.Linear]) -> Iterator[None]:
    """Within the context these layers round inputs, weights and products to bfloat16.

    They take and give the types that they take and give outside of it, and so do their gradients.
    Unlike under `torch.autocast` no number is bfloat16 between two layers, so densities and losses
    see float32 only.

    >>> layer, x = nn.Linear(128, 128), torch.randn(2, 128)
    >>> with low_products([layer]):
    ...     low = layer(x)
    >>> low.dtype, bool(torch.equal(low, layer(x)))
    (torch.float32, False)
    """
    changed = list(layers)
    try:
        for layer in changed:
            layer.forward = partial(_low, layer)  # type: ignore[method-assign]
        yield
    finally:
        for layer in changed:
            layer.__dict__.pop("forward", None)


def _low(layer: nn.Linear, x: Tensor) -> Tensor:
    low = torch.bfloat16
    bias = None if layer.bias is None else layer.bias.to(low)
    return functional.linear(x.to(low), layer.weight.to(low), bias).to(x.dtype)
