"""The neural spline flow density, exact, through zuko (extra ``vaerl[flow]``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaerl.densities.base import ConditionalDensity, ConditionalValue
from vaerl.densities.noise import Noise, Shape, candidate_codes, standard_normal
from vaerl.densities.options import check_choice, check_positive, check_sizes

FAMILIES = ("NSF", "MAF", "NICE")


def _import_zuko() -> ModuleType:
    """zuko, with torch's global argument validation left as it was (zuko's import switches it
    off)."""
    validate = Distribution._validate_args
    try:
        import zuko
    except ImportError as error:
        raise ImportError(
            "density 'flow' needs the package zuko: install it with  pip install 'vaerl[flow]'"
        ) from error
    finally:
        Distribution.set_default_validate_args(validate)
    return zuko


class FlowValue(ConditionalValue):
    """A normalising flow at given contexts: x = T_c^{-1}(ε), ε ~ N(0, I)."""

    def __init__(self, flow: Any, batch_shape: torch.Size, event_dim: int, like: Tensor) -> None:
        super().__init__(batch_shape, event_dim)
        self.transform = flow.transform
        self.flow_base = flow.base
        self._like = like

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        shape = (*sample_shape, *self.batch_shape, self.event_dim)
        return self.transform.inv(standard_normal(shape, self._like, generator))

    def rsample_and_log_prob(
        self,
        k: int = 8,
        sample_shape: Shape = (),
        generator: Noise = None,
    ) -> tuple[Tensor, Tensor]:
        shape = (*sample_shape, *self.batch_shape, self.event_dim)
        noise = standard_normal(shape, self._like, generator)
        x, log_det = self.transform.inv.call_and_ladj(noise)
        return x, self.flow_base.log_prob(noise) - log_det

    def log_prob(self, x: Tensor) -> Tensor:
        noise, log_det = self.transform.call_and_ladj(self._check_event(x))
        return self.flow_base.log_prob(noise) + log_det

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        """The best of n fixed candidates by density, ``batch + (X,)``; reads no random stream."""
        check_positive("n", n)
        noise = candidate_codes(n, self.event_dim)[:, 1:].to(self._like)
        noise = noise.reshape(n, *(1,) * len(self.batch_shape), self.event_dim)
        candidates = self.transform.inv(noise.expand(n, *self.batch_shape, self.event_dim))
        best = self.log_prob(candidates).argmax(0)
        index = best[None, ..., None].expand(1, *candidates.shape[1:])
        return candidates.gather(0, index).squeeze(0)


class Flow(ConditionalDensity):
    """Conditional normalising flow.

    Args:
        family: "NSF" (neural spline, Durkan et al. 2019), "MAF" (masked autoregressive) or "NICE"
            (coupling).
        transforms: number of transformations.
        hidden: widths of each transformation's network.
        bins: knots of a spline (NSF only); splines act on [−5, 5], so scale the events to that
            range.

    >>> from vaerl.densities import make_density
    >>> density = make_density("flow", context_dim=3, event_dim=2)
    >>> density(torch.zeros(5, 3)).log_prob(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    name = "flow"
    options_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {},
        "chunk": {"family": "NICE", "hidden": (128, 128)},  # inverts in one pass, in any dimension
    }

    def __init__(
        self,
        context_dim: int,
        event_dim: int,
        *,
        family: str = "NSF",
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
    ) -> None:
        super().__init__(context_dim, event_dim)
        check_choice("family", family, FAMILIES)
        check_positive("transforms", transforms)
        check_positive("bins", bins, at_least=2)
        widths = check_sizes("hidden", hidden)
        options: dict[str, Any] = {"transforms": transforms, "hidden_features": widths}
        if family == "NSF":
            options["bins"] = bins
        make = getattr(_import_zuko().flows, family)
        self.flow = make(event_dim, context_dim, **options)

    def _value(self, context: Tensor) -> FlowValue:
        return FlowValue(self.flow(context), context.shape[:-1], self.event_dim, context)
