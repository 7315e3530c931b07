"""Densities by name: one line here per density."""

from __future__ import annotations

import inspect
from typing import Any

from vaerl.densities.base import ConditionalDensity
from vaerl.densities.options import check_flag
from vaerl.densities.squash import Squashed
from vaerl.names import did_you_mean
from vaerl.registry import Registry

DENSITIES = Registry(
    "density",
    "vaerl.densities",
    {
        "gaussian": ("vaerl.densities.gaussian:Gaussian", "diagonal Gaussian"),
        "mixture": ("vaerl.densities.mixture:Mixture", "mixture of diagonal Gaussians"),
        "cvae": ("vaerl.densities.cvae:CVAE", "conditional variational autoencoder"),
        "imle": ("vaerl.densities.imle:IMLE", "latent generator, best of several codes"),
        "flow": ("vaerl.densities.flow:Flow", "neural spline flow (extra: flow)"),
    },
)


def density_names() -> tuple[str, ...]:
    """Names that `make_density` understands.

    >>> density_names()[:5]
    ('gaussian', 'mixture', 'cvae', 'imle', 'flow')
    """
    return DENSITIES.names()


def density_class(name: str) -> type[ConditionalDensity]:
    """The class of a name; an unknown name raises one line with the nearest match."""
    return DENSITIES.load(name)


def density_options(name: str) -> tuple[str, ...]:
    """Names of the options that `make_density` takes for a density."""
    parameters = inspect.signature(density_class(name)).parameters
    return (*(p for p in parameters if p not in ("context_dim", "event_dim")), "squash")


def make_density(
    name: str, *, context_dim: int, event_dim: int, squash: bool = False, **options: Any
) -> ConditionalDensity:
    """A conditional density p(x | c) by name.

    Args:
        name: as in `vaerl list densities`.
        context_dim: C, the size of a context.
        event_dim: X, the size of an event.
        squash: events are in (−1, 1)^X; see `vaerl.densities.squash.Squashed`.
        options: of the density.

    Raises:
        ValueError: an unknown name or option (with the nearest match), or an illegal value.

    >>> import torch
    >>> density = make_density("cvae", context_dim=3, event_dim=2, latent_dims=(2,))
    >>> x, log_prob = density(torch.zeros(5, 3)).rsample_and_log_prob(k=4)
    >>> x.shape, log_prob.shape
    (torch.Size([5, 2]), torch.Size([5]))
    """
    legal = density_options(name)
    for option in options:
        if option not in legal:
            near = did_you_mean(option, legal)
            raise ValueError(f"{option}: unknown option of density {name!r}, {near}")
    squashed = check_flag("squash", squash)
    density = density_class(name)(context_dim, event_dim, **options)
    return Squashed(density) if squashed else density
