"""A latent code that is held through an episode, for quantities that an environment hides.

    p(s_1 … s_T | s_0, a) = ∫ p(z) Π_t p(s_{t+1} | s_t, a_t, z) dz,    p(z) = Σ_m w_m N(μ_m, σ_m²)

Any density may stand for the factors: z is appended to its context. The prior is learned: with
N(0, I) a smooth decoder spends probability, in every episode, on codes between those in use.
Everything is fitted by a bound on the whole product with a recognition network over the episode,

    L_k = E log (1/k) Σ_i p(z_i)/q(z_i | episode) Π_t p(s_{t+1} | s_t, a_t, z_i),   z_i ~ q,

the importance-weighted bound of Burda et al. (2016), with the doubly reparameterised gradient.
Shapes: E members, R episodes (or stretches of them), T steps, padded ones masked out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl import bounds
from vaerl.densities.latent import chunks
from vaerl.densities.noise import sobol_codes
from vaerl.densities.normal import DiagonalNormal, NormalMixture
from vaerl.nets import log_shares, mlp, smooth_range

LATENTS = ("step", "episode")
ROWS = 1 << 17
"""Rows of a density evaluated at once in a score."""


class Stretches(NamedTuple):
    """Stretches of episodes as rows of a data set: indices and which of them count, ``(R, T)``."""

    rows: Tensor
    mask: Tensor


class EpisodeCode(nn.Module):
    """Prior and recognition of an episode's code, of one member or of E as one batch.

    q(z | episode) = N(μ, diag σ²), from the mean of features of its transitions and log T.

    Args:
        in_dim: size of a transition (context and event).
        latent_dim: Z, the size of the code.
        hidden: width of both networks.
        components: of the prior.
    """

    def __init__(self, in_dim: int, latent_dim: int, hidden: int = 64, components: int = 4) -> None:
        super().__init__()
        self.each = mlp(in_dim, (hidden, hidden))
        self.whole = mlp(hidden + 1, (hidden,), 2 * latent_dim)
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(sobol_codes(components, latent_dim, seed=1)[:, 1:].clone())
        self.raw = nn.Parameter(torch.full((components, latent_dim), -0.7))

    @property
    def prior(self) -> NormalMixture:
        """p(z)."""
        log_sigma = smooth_range(self.raw, -5.0, 2.0)
        return NormalMixture(log_shares(self.logits), self.mean, log_sigma)

    def place(self, noise: Tensor) -> Tensor:
        """Codes ``(*shape, Z)`` of the prior that `code_noise` ``(*shape, 1 + Z)`` maps to.

        Where several members are batched, E and B are the last dimensions of the shape.
        """
        prior = self.prior
        chosen = functional.one_hot(prior.component(noise[..., 0]), self.logits.shape[-1])
        pick = chosen.unsqueeze(-1).to(noise)
        normal = DiagonalNormal((pick * prior.mean).sum(-2), (pick * prior.log_sigma).sum(-2))
        return normal.at(noise[..., 1:])

    def forward(self, steps: Tensor, mask: Tensor) -> DiagonalNormal:
        """q for transitions ``(E, R, T, in)`` of which those of `mask` ``(E, R, T)`` count."""
        features = self.each(steps.flatten(1, 2)).unflatten(1, steps.shape[1:3])
        weight = mask.unsqueeze(-1).to(features)
        count = weight.sum(2)
        pooled = torch.cat(((weight * features).sum(2) / count, count.log()), dim=-1)
        mean, raw = self.whole(pooled).chunk(2, dim=-1)
        return DiagonalNormal(mean, smooth_range(raw, -7.0, 2.0))


def whole_episodes(episodes: Tensor) -> Stretches:
    """Every episode as one stretch, padded to the longest.

    >>> whole_episodes(torch.tensor([4, 4, 7]))
    Stretches(rows=tensor([[0, 1],
            [2, 2]]), mask=tensor([[ True,  True],
            [ True, False]]))
    """
    _, counts = torch.unique_consecutive(episodes, return_counts=True)
    first = counts.cumsum(0) - counts
    return _stretches(first, counts, int(counts.max()))


def stretches_from(starts: Tensor, episodes: Tensor, length: int) -> Stretches:
    """Stretches of at most `length` steps that begin at rows `starts` (any shape)."""
    _, place, counts = torch.unique_consecutive(episodes, return_inverse=True, return_counts=True)
    left = counts.cumsum(0)[place[starts]] - starts
    return _stretches(starts, left, length)


def _stretches(first: Tensor, counts: Tensor, length: int) -> Stretches:
    steps = torch.arange(length, device=first.device)
    inside = steps < counts.unsqueeze(-1)
    rows = first.unsqueeze(-1) + torch.minimum(steps, counts.unsqueeze(-1) - 1)
    return Stretches(rows, inside)


def with_code(context: Tensor, code: Tensor) -> Tensor:
    """Contexts ``(*shape, C)`` with codes ``(*shape, Z)`` appended, either repeated to fit."""
    shape = torch.broadcast_shapes(context.shape[:-1], code.shape[:-1])
    return torch.cat((context.expand(*shape, -1), code.expand(*shape, -1)), dim=-1)


def episode_bound(
    networks: Any,
    context: Tensor,
    x: Tensor,
    mask: Tensor,
    k: int,
    generator: torch.Generator | None = None,
    *,
    training: bool = False,
) -> Tensor:
    """L_k of stretches, ``(E, R)`` in nats; its gradient is the doubly reparameterised one.

    Args:
        networks: of all members: "density" over contexts with a code, and "episode".
        context, x: ``(E, R, T, C)`` and ``(E, R, T, X)``, standardised.
        mask: ``(E, R, T)``.
        k: codes drawn from q for each stretch.
        training: take the density's own objective for log p(x | c, z), a bound where it is latent.
    """
    q = networks["episode"](torch.cat((context, x), dim=-1), mask)
    code = q.rsample((k,), generator)
    gradient = bounds.EncoderGradient("dreg")
    (leaf,) = gradient.leaves((code,)) if training else (code,)
    log_q = q.detach().log_prob(leaf)
    log_prior = networks["episode"].prior.log_prob(leaf)
    c = with_code(context, leaf.unsqueeze(-2)).flatten(-3, -2)
    events = x.expand(k, *x.shape).flatten(-3, -2)
    density: Any = networks["density"]
    if training:
        loss, _ = density.loss(c, events, diagnostics=False, generator=generator)
        log_p = -loss
    else:
        log_p = density(c).log_prob_bounds(events, generator=generator).lower
    log_p = (log_p.unflatten(-1, mask.shape[1:]) * mask).sum(-1)
    log_w = log_p + log_prior - log_q
    if training:
        gradient.set_weights(log_w)
    return bounds.iwae(log_w)


def episode_scores(
    networks: Any,
    context: Tensor,
    x: Tensor,
    episodes: Tensor,
    k: int,
    generator: torch.Generator,
) -> Tensor:
    """Σ over whole episodes of −L_k, ``(E,)``; contexts ``(E, N, C)`` and events ``(E, N, X)``.

    Many codes are drawn in parts; the weights are summed over all of them.
    """
    whole = whole_episodes(episodes)
    at_once = max(1, min(k, ROWS // max(1, whole.rows.shape[1] * len(context))))
    total = context.new_zeros(len(context))
    for rows, mask in zip(whole.rows, whole.mask, strict=True):
        c, e = context[:, rows].unsqueeze(1), x[:, rows].unsqueeze(1)
        inside = mask.expand(len(context), 1, -1)
        found = [
            episode_bound(networks, c, e, inside, n, generator).squeeze(1)
            + torch.log(torch.tensor(n / k))
            for n in chunks(k, at_once)
        ]
        total = total - torch.logsumexp(torch.stack(found), dim=0)
    return total
