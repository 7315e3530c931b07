"""The values of a latent-variable density: the intractable one, and the mixture over fixed codes.

The first gives samples, lower bounds and upper bounds; the second is exact.
"""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vaerl import bounds
from vaerl.densities.base import Bounds, ConditionalValue, IntractableError, Latents
from vaerl.densities.chain import Generative, LatentChain, Path, sum_layers
from vaerl.densities.noise import Noise, Shape, candidate_codes, uniform
from vaerl.densities.normal import MixtureValue, NormalMixture
from vaerl.densities.options import check_positive, check_share

ROWS_AT_ONCE = 1 << 18
"""Latent samples evaluated at once without gradients; keeps memory constant in k."""
GRADIENT_ROWS = 1 << 17
"""The same with gradients; of more, each block is evaluated again in the backward pass."""


class LatentValue(ConditionalValue):
    """p(x | c) = ∫ p(x | z, c) p(z | c) dz at given contexts."""

    exact: ClassVar[bool] = False

    def __init__(
        self,
        chain: LatentChain,
        context: Tensor,
        latent_dims: tuple[int, ...],
        event_dim: int,
        defensive: float,
    ) -> None:
        super().__init__(context.shape[:-1], event_dim)
        self.chain = chain
        self.latent_dims = latent_dims
        self.defensive = defensive
        self._context = context

    @functools.cached_property
    def _p(self) -> Generative:
        return self.chain.generate(self._context)

    @functools.cached_property
    def _q(self) -> tuple[Any, ...]:
        return self.chain.recognise(self._context)

    # -- sampling ----------------------------------------------------------------------------------

    def rsample_with_latents(
        self, sample_shape: Shape = (), generator: Noise = None
    ) -> tuple[Tensor, Latents]:
        path = self.chain.sample_prior(self._p, tuple(sample_shape), generator)
        return self.chain.decode(self._p, path).rsample((), generator), path

    def sample_mean(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """The decoder's mean at a path drawn from the prior."""
        with torch.no_grad():
            path = self.chain.sample_prior(self._p, tuple(sample_shape), generator)
            return self.chain.decode(self._p, path).moments()[0]

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        return self.rsample_with_latents(sample_shape, generator)[0]

    def rsample_and_log_prob(
        self,
        k: int = 8,
        sample_shape: Shape = (),
        generator: Noise = None,
    ) -> tuple[Tensor, Tensor]:
        """A reparameterised sample and the upper bound U_k on its log-density.

        U_k = log 1/(k+1) Σ_{i=0}^k w_i with the generating path in place 0 and k fresh paths from
        the defensive proposal. Differentiable through the sample, all paths and all weights, so
        that minimising it also trains the recognition network to tighten it.
        """
        check_positive("k", k, at_least=0)
        shape = tuple(sample_shape)
        at_once = min(k, self._at_once(k, math.prod(shape) * self.batch_shape.numel()))
        spare = at_once if self.defensive else 0  # drawn along with the generating path
        paths = self.chain.sample_prior(self._p, (1 + spare, *shape), generator)
        generating, others = (tuple(h[part] for h in paths) for part in (0, slice(1, None)))
        decoder = self.chain.decode(self._p, generating)
        x = decoder.rsample((), generator)
        log_w = self._log_weights(
            x, k, self.defensive, generator, generating, decoder, others if spare else None
        )
        return x, bounds.iwae(log_w)

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        """The best of n candidates by density, ``batch + (X,)``, and never just the decoder at z =
        0.

        Candidates are the decoder's means at n fixed codes; their density is that of the frozen
        mixture over the same codes. Deterministic: no random stream is read.
        """
        check_positive("n", n)
        codes = candidate_codes(n, sum(self.latent_dims)).to(self._context)
        mixture = decode_codes(self.chain, self._p, codes, tuple(self.batch_shape))
        return MixtureValue(mixture).mode()

    # -- densities ---------------------------------------------------------------------------------

    def log_prob(self, x: Tensor) -> Tensor:
        raise IntractableError(
            "log_prob of a latent density is intractable: use log_prob_bounds(x, k) for bounds, "
            "rsample_and_log_prob(k) for a sample with its upper bound, or density.freeze(codes) "
            "for an exact finite mixture"
        )

    def log_prob_bounds(
        self,
        x: Tensor,
        k: int = 64,
        latents: Latents | None = None,
        generator: Noise = None,
        *,
        defensive: float | None = None,
    ) -> Bounds:
        """L_k ≤ log p(x | c) ≤ U_k in expectation, with the same k proposals in both.

        Args:
            x: events ``sample_shape + batch + (X,)``.
            k: proposals; L_k rises and U_k falls with it.
            latents: the path that generated x **under these parameters**; without it the upper
                bound is None.
            defensive: share λ of the prior in the proposal; default is the density's.

        The upper bound holds for the model's own samples only, not for data, and not after a
        parameter update.
        """
        x = self._check_event(x)
        check_positive("k", k, at_least=1 if latents is None else 0)
        share = self.defensive if defensive is None else check_share("defensive", defensive)
        if latents is not None:
            self._check_latents(latents, x)
        log_w = self._log_weights(x, k, share, generator, latents)
        proposals = log_w if latents is None else log_w[1:]
        lower = bounds.iwae(proposals) if k else torch.full_like(x[..., 0], -torch.inf)
        upper = None if latents is None else bounds.upper_bound(log_w[0], proposals)
        return Bounds(lower, upper)

    def _check_latents(self, latents: Latents, x: Tensor) -> None:
        found = [tuple(h.shape) for h in latents]
        expected = [(*x.shape[:-1], dim) for dim in self.latent_dims]
        if found != expected:
            raise ValueError(f"latents: got shapes {found}, expected {expected}, h_1 first")

    def _log_weights(
        self,
        x: Tensor,
        k: int,
        share: float,
        generator: Noise,
        generating: Path | None = None,
        decoder: Any | None = None,
        prior_path: Path | None = None,
    ) -> Tensor:
        """log w of k proposals ``(k,) + shape``, preceded by that of the generating path.

        The law q(h_1 | x, c) is computed once. `decoder` is p(x | h_1, c) at the generating path
        and `prior_path` new paths from the prior for the first chunk; both are optional.
        """
        first_law = self.chain.recognition[0](x, self._q[0])
        at_once = self._at_once(k, x[..., 0].numel())
        parts: list[Tensor] = []
        for n in chunks(k, at_once) or [0]:
            path = self._propose(x, first_law, n, share, generator, prior_path)
            prior_path = None
            weigh = functools.partial(self._weigh, x, first_law, share)
            size = GRADIENT_ROWS // max(1, x[..., 0].numel())
            if torch.is_grad_enabled() and n > max(1, size):
                # One path outside of the blocks fills the caches that all of them use.
                one, path = tuple(h[:1] for h in path), tuple(h[1:] for h in path)
                if generating is not None:
                    parts.append(weigh(*(h.unsqueeze(0) for h in generating)))
                parts.append(weigh(*one))
                blocks = zip(*(h.split(max(1, size)) for h in path), strict=True)
                parts += [checkpoint(weigh, *block, use_reentrant=False) for block in blocks]
                continue
            likelihood = self.chain.decode(self._p, path).log_prob(x)
            if generating is not None and not parts:  # evaluated beside the first proposals
                path = tuple(
                    torch.cat([own.unsqueeze(0), h])
                    for own, h in zip(generating, path, strict=True)
                )
                decoder = self.chain.decode(self._p, generating) if decoder is None else decoder
                likelihood = torch.cat([decoder.log_prob(x).unsqueeze(0), likelihood])
            parts.append(weigh(*path, likelihood=likelihood))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _weigh(
        self, x: Tensor, first_law: Any, share: float, *path: Tensor, likelihood: Any = None
    ) -> Tensor:
        """log w of whole paths."""
        if likelihood is None:
            likelihood = self.chain.decode(self._p, path).log_prob(x)
        log_p = sum_layers(self.chain.log_prior_layers(self._p, path))
        log_q = sum_layers(self.chain.log_q_layers(self._q, first_law, path))
        return likelihood + log_p - bounds.defensive_log_density(log_p, log_q, share)

    @staticmethod
    def _at_once(k: int, rows: int) -> int:
        """How many of k samples for `rows` events are evaluated at once."""
        return max(1, k if torch.is_grad_enabled() else min(k, ROWS_AT_ONCE // max(1, rows)))

    def _propose(
        self,
        x: Tensor,
        first_law: Any,
        k: int,
        share: float,
        generator: Noise,
        prior_path: Path | None,
    ) -> Path:
        """k whole paths from λ p(z | c) + (1 − λ) q(z | x, c), reparameterised given which of the
        two drew them; `prior_path` may hold k paths from p."""
        path = [first_law.rsample((k,), generator)]
        for l in range(1, self.chain.depth):
            path.append(self.chain.recognition[l](path[-1], self._q[l]).rsample((), generator))
        if share == 0.0:
            return tuple(path)
        if prior_path is None:
            sample_shape = (k, *x.shape[: x.ndim - 1 - len(self.batch_shape)])
            prior_path = self.chain.sample_prior(self._p, sample_shape, generator)
        from_prior = uniform((k, *x.shape[:-1]), x, generator).unsqueeze(-1) < share
        return tuple(torch.where(from_prior, a, b) for a, b in zip(prior_path, path, strict=True))


def chunks(total: int, size: int) -> list[int]:
    """Sizes of at most `size` that add up to `total`."""
    full, rest = divmod(total, size)
    return [size] * full + ([rest] if rest else [])


# -- fixed codes -----------------------------------------------------------------------------------


def decode_codes(
    chain: LatentChain, p: Generative, codes: Tensor, batch: tuple[int, ...]
) -> NormalMixture:
    """The equal-weight mixture of the decoder's normals at the K codes: parameters ``batch + (K,
    X)``."""
    column = codes.reshape(len(codes), *(1,) * len(batch), codes.shape[-1])
    path = _place(chain, p, column.expand(len(codes), *batch, codes.shape[-1]))
    mixture: NormalMixture = chain.decode(p, path).equal_mixture()
    return mixture


def _place(chain: LatentChain, p: Generative, codes: Tensor) -> Path:
    """The path that each code maps to at its own context, for codes ``(*sample, *batch, E)``."""
    dims = [layer.child_dim for layer in chain.recognition]
    return chain.place(p, codes[..., 0], codes[..., 1:].split(dims, dim=-1))


class FrozenValue(MixtureValue):
    """(1/K) Σ_k p(x | c, z_k(c)) at given contexts, computed only as far as needed."""

    def __init__(self, chain: LatentChain, codes: Tensor, context: Tensor, event_dim: int) -> None:
        ConditionalValue.__init__(self, context.shape[:-1], event_dim)
        self._chain, self._codes, self._context = chain, codes, context

    @functools.cached_property
    def _p(self) -> Generative:
        return self._chain.generate(self._context)

    @functools.cached_property
    def mixture(self) -> NormalMixture:  # type: ignore[override]
        """The mixture itself, parameters ``batch + (K, X)``."""
        return decode_codes(self._chain, self._p, self._codes, tuple(self.batch_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        x = self._check_event(x)
        native = self._chain.conditioned(self._context, x, len(self._codes), self._codes)
        return self.mixture.log_prob(x) if native is None else native.log_prob(x, self._codes)

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """As from the mixture, with the same noise; only the codes drawn are decoded."""
        batch = (*sample_shape, *self.batch_shape)
        u = uniform(batch, self._codes, generator)
        log_weights = u.new_full((len(self._codes),), -math.log(len(self._codes)))
        drawn = torch.bucketize(u, torch.exp(log_weights).cumsum(0)[:-1], right=True)
        path = _place(self._chain, self._p, self._codes[drawn])
        return self._chain.decode(self._p, path).rsample((), generator)
