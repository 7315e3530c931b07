"""Densities by name: one line here per density."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from vaerl.densities.base import ConditionalDensity

_REGISTRY: dict[str, Callable[[], type[ConditionalDensity]]] = {}


def register_density(name: str, load: Callable[[], type[ConditionalDensity]]) -> None:
    """Make a density class known under `name`; `load` returns the class when it is first asked for.

    Raises ValueError if the name is taken.
    """
    if name in _REGISTRY:
        raise ValueError(f"name: {name!r} is taken; known densities are {', '.join(_REGISTRY)}")
    _REGISTRY[name] = load


def density_names() -> tuple[str, ...]:
    """Names that `make_density` understands.

    >>> density_names()
    ('gaussian', 'mixture', 'cvae', 'flow')
    """
    return tuple(_REGISTRY)


def density_class(name: str) -> type[ConditionalDensity]:
    """The class registered under `name`; an unknown name raises one line with the nearest match."""
    if name not in _REGISTRY:
        near = difflib.get_close_matches(str(name), _REGISTRY, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"density: got {name!r}, {hint}known names are {', '.join(_REGISTRY)}")
    return _REGISTRY[name]()


def density_options(name: str) -> tuple[str, ...]:
    """Names of the options that a density takes."""
    parameters = inspect.signature(density_class(name)).parameters
    return tuple(p for p in parameters if p not in ("context_dim", "event_dim"))


def make_density(
    name: str, *, context_dim: int, event_dim: int, **options: Any
) -> ConditionalDensity:
    """A conditional density p(x | c) by name.

    Args:
        name: "gaussian", "mixture", "cvae" or "flow".
        context_dim: C, the size of a context.
        event_dim: X, the size of an event.
        options: of the density; every one takes ``squash=True`` for events in (−1, 1)^X.

    Raises:
        ValueError: an unknown name or option (with the nearest match), or an illegal value.

    >>> import torch
    >>> density = make_density("cvae", context_dim=3, event_dim=2, latent_dims=(2,))
    >>> x, log_prob = density(torch.zeros(5, 3)).rsample_and_log_prob(k=4)
    >>> x.shape, log_prob.shape
    (torch.Size([5, 2]), torch.Size([5]))
    """
    cls = density_class(name)
    legal = density_options(name)
    for option in options:
        if option not in legal:
            near = difflib.get_close_matches(option, legal, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"{option}: unknown option of density {name!r}, {hint}legal are {', '.join(legal)}"
            )
    return cls(context_dim, event_dim, **options)


def _gaussian() -> type[ConditionalDensity]:
    from vaerl.densities.gaussian import Gaussian

    return Gaussian


def _mixture() -> type[ConditionalDensity]:
    from vaerl.densities.mixture import Mixture

    return Mixture


def _cvae() -> type[ConditionalDensity]:
    from vaerl.densities.cvae import CVAE

    return CVAE


def _flow() -> type[ConditionalDensity]:
    from vaerl.densities.flow import Flow

    return Flow


register_density("gaussian", _gaussian)
register_density("mixture", _mixture)
register_density("cvae", _cvae)
register_density("flow", _flow)
