"""The density of a policy head: the user's options over the defaults of its class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from vaerl.densities import ConditionalDensity, density_class, make_density
from vaerl.densities.options import check_named


def make_head(
    density: str,
    density_kwargs: Mapping[str, Any] | None,
    kind: str,
    *,
    context_dim: int,
    event_dim: int,
    squash: bool,
    log_sigma: float = 0.0,
) -> ConditionalDensity:
    """The density of a head that is "off"-policy, "on"-policy or "chunk".

    Options in `density_kwargs` override those in the class's `options_for`.

    `log_sigma` is the log standard deviation at the start, before the squash, for densities that
    have one (`start_options`).
    """
    own = check_density_kwargs(density_kwargs)
    if own.get("whole"):
        raise ValueError("whole: got True, expected False: the actions of a Box are real numbers")
    cls = density_class(density)
    defaults = cls.options_for.get(kind, {})
    low, high = defaults.get("log_sigma_bounds", (-math.inf, math.inf))
    if not low < log_sigma < high:
        raise ValueError(
            f"log_std_init: got {log_sigma!r}, expected a number between {low} and {high}"
        )
    options = {**defaults, **cls.start_options(log_sigma), **own}
    head = make_density(
        density, context_dim=context_dim, event_dim=event_dim, squash=squash, **options
    )
    head.spread_out(log_sigma)
    return head


@torch.no_grad()
def prepare_mode(density: ConditionalDensity, num_candidates: int) -> None:
    """Choose one mode, so that its candidates are constants of every later trace or export."""
    density(torch.zeros(1, density.context_dim)).mode(num_candidates)


def check_density_kwargs(density_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of `density_kwargs`; options that the policy itself sets raise one line."""
    given = check_named("density_kwargs", density_kwargs)
    for name in ("squash", "context_dim", "event_dim"):
        if name in given:
            raise ValueError(
                f"density_kwargs: got {name!r}, which the policy sets from its spaces; leave it out"
            )
    return given
