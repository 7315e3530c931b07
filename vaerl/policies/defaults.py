"""Options of the densities as policy heads: what differs from their own defaults, and why.

A policy's trunk has already digested the observation, so heads read it linearly. A density
improved through its own samples (SAC) keeps mixture weights equal: weights have no pathwise
gradient, and what reaches them through log π alone is noise of mean zero. Log σ stays above −5, so
that no action collapses onto a point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from vaerl.densities import ConditionalDensity, make_density
from vaerl.densities.cvae import CVAE

_CVAE = {
    "latent_dims": (4,),
    "prior": "mixture",
    "prior_components": 8,
    "prior_weights": "equal",
    "hidden": 32,
    "blocks": 1,
    "context_hidden": (),
    "log_sigma_bounds": (-5.0, 2.0),
}

DECODER_SHARE = 1.0
"""Nats by which a fresh CVAE decoder's log σ lies below that of the whole head."""

OFF_POLICY: dict[str, dict[str, Any]] = {
    "gaussian": {"mean": "linear", "variance": "predicted", "log_sigma_bounds": (-5.0, 2.0)},
    "mixture": {
        "components": 8,
        "hidden": (),
        "weights": "equal",
        "log_sigma_bounds": (-5.0, 2.0),
    },
    "cvae": _CVAE,
}

# On-policy gradients go through log π(a), which trains weights as well; the Gaussian is SB3's.
ON_POLICY: dict[str, dict[str, Any]] = {
    "gaussian": {
        "mean": "linear",
        "variance": "state-independent",
        "log_sigma_bounds": (-5.0, 2.0),
    },
    "mixture": OFF_POLICY["mixture"] | {"weights": "learned"},
    "cvae": _CVAE,
}


def make_head(
    density: str,
    density_kwargs: Mapping[str, Any] | None,
    defaults: Mapping[str, Mapping[str, Any]],
    *,
    context_dim: int,
    event_dim: int,
    squash: bool,
    log_sigma: float = 0.0,
) -> ConditionalDensity:
    """The density of a policy head: `defaults` of that name, overridden by `density_kwargs`.

    `log_sigma` is the log standard deviation at the start of a Gaussian or CVAE head (before the
    squash).
    """
    own = check_density_kwargs(density_kwargs)
    if own.get("whole"):
        raise ValueError("whole: got True, expected False: the actions of a Box are real numbers")
    low, high = defaults.get(density, {}).get("log_sigma_bounds", (-math.inf, math.inf))
    if not low < log_sigma < high:
        raise ValueError(
            f"log_std_init: got {log_sigma!r}, expected a number between {low} and {high}"
        )
    start: dict[str, dict[str, Any]] = {
        "gaussian": {"sigma": math.exp(log_sigma)},
        "cvae": {"initial_log_sigma": log_sigma - DECODER_SHARE},
    }
    options = {**defaults.get(density, {}), **start.get(density, {}), **own}
    head = make_density(
        density, context_dim=context_dim, event_dim=event_dim, squash=squash, **options
    )
    if isinstance(head, CVAE):
        spread_decoder(head, math.exp(log_sigma) * math.sqrt(1.0 - math.exp(-2.0 * DECODER_SHARE)))
    return head


@torch.no_grad()
def spread_decoder(density: CVAE, spread: float, rows: int = 256) -> None:
    """Scale and centre the decoder's mean: over the prior's latents it deviates by `spread`.

    Most of a fresh head's variance then comes from the latents: its parts start apart, each feels
    the slope of Q where it stands, and one mode does not swallow the others. With a wide decoder
    all latents decode to the same broad bump, which slides as a whole into the first mode found.
    """
    generator = torch.Generator().manual_seed(0)  # its own: torch's global stream is not touched
    chain, size = density.chain, density.event_dim
    context = torch.randn((rows, density.context_dim), generator=generator)
    p = chain.generate(context)
    mean = chain.decode(p, chain.sample_prior(p, (16,), generator)).mean.flatten(0, -2)
    decoder: Any = chain.generative[0]
    leave = decoder.net.leave
    factor = spread / mean.std(0).clamp_min(1e-6)
    leave.weight[:size] *= factor.unsqueeze(-1)
    leave.bias[:size] = (leave.bias[:size] - mean.mean(0)) * factor


def check_density_kwargs(density_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of `density_kwargs`; what the policy itself decides is refused in one line."""
    if density_kwargs is None:
        return {}
    if not isinstance(density_kwargs, Mapping):
        raise ValueError(f"density_kwargs: got {density_kwargs!r}, expected a dict of options")
    for name in ("squash", "context_dim", "event_dim"):
        if name in density_kwargs:
            raise ValueError(
                f"density_kwargs: got {name!r}, which the policy sets from its spaces; leave it out"
            )
    return dict(density_kwargs)
