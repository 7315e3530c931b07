"""The conditional variational autoencoder as a density, with any number of stochastic layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vaerl import bounds
from vaerl.densities.base import ConditionalDensity, Info
from vaerl.densities.chain import LatentChain, sum_layers
from vaerl.densities.kernel import Kernel
from vaerl.densities.latent_density import LatentDensity
from vaerl.densities.layers import (
    PRIORS,
    NormalLayer,
    WholeLayer,
    film_layers,
    make_prior,
    near_identity,
)
from vaerl.densities.noise import Noise, standard_normal
from vaerl.densities.options import (
    MOST,
    check_choice,
    check_positive,
    check_range,
    check_share,
    check_sizes,
)
from vaerl.densities.sleep import sleep_losses
from vaerl.densities.whole import log_sigma_range as decoder_log_sigma_range
from vaerl.nets import mlp

OBJECTIVES = ("elbo", "vae-k", "iwae-k")
LATENTS, MOST_LATENTS = 3, 4096
"""Default size of the latent layer, where x has no more dimensions, and the largest one."""


class CVAE(LatentDensity):
    """Conditional VAE: L stochastic layers and a bottom-up recognition network.

    p(x | c) = ∫ p(x | h_1, c) Π_l p(h_l | h_{l+1}, c) p(h_L | c) dh

    Every layer is a diagonal normal whose parameters come from a FiLM residual network: the parent
    runs through the blocks, the context modulates them. The log-density is intractable; the value's
    calls say which bound they give.

    Args:
        latent_dims: sizes of the stochastic layers from h_1 (next to x) upward; their number is L.
            By default one layer of 3; where x has more dimensions, one of as many (at most half of
            `hidden`) that starts near the identity, see `vaerl.densities.layers.near_identity`.
        prior: of the top layer: "standard" N(0, I), "gaussian" or "mixture", the last two learned
            from c.
        prior_components: Gaussians of a mixture prior.
        prior_weights: "learned" or "equal" weights of a mixture prior. Weights have no pathwise
            gradient: keep them equal where the density is improved through its own samples
            (policies).
        objective: "elbo", "vae-k" (mean of k ELBOs) or "iwae-k" (importance-weighted bound).
        k: importance samples of the objective; 1 for "elbo".
        encoder_gradient: "dreg", "stl", "wake" (reweighted wake-sleep) or "total" derivative; see
            `vaerl.bounds.EncoderGradient`.
        hidden, blocks: width and number of the FiLM blocks of every layer.
        context_hidden: widths of the two context embeddings (of p and of q); ``()`` uses the raw
            context.
        log_sigma_bounds: range of the decoder's log σ, in nats.
        latent_log_sigma_bounds: range of every other layer's log σ.
        initial_log_sigma: decoder's log σ at the start; by default 0, near the identity −2.
        defensive: share λ of the prior in the proposal of the bounds, not of the objective.
        whole: events are whole numbers (`vaerl.densities.whole`).

    References: Kingma & Welling 2014; Sohn et al. 2015; Burda et al. 2016; Tucker et al. 2019.

    >>> from vaerl.densities import make_density
    >>> density = make_density("cvae", context_dim=3, event_dim=2, latent_dims=(4, 2))
    >>> context, x = torch.randn(5, 3), torch.randn(5, 2)
    >>> loss, info = density.loss(context, x)
    >>> loss.shape, density(context).log_prob_bounds(x, k=8).lower.shape
    (torch.Size([5]), torch.Size([5]))
    """

    name = "cvae"
    _head: ClassVar[Mapping[str, Any]] = {
        "latent_dims": (4,),
        "prior_components": 8,
        "prior_weights": "equal",
        "hidden": 32,
        "blocks": 1,
        "context_hidden": (),
        "log_sigma_bounds": (-5.0, 2.0),
    }
    options_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": _head,
        "on": _head,
        "chunk": {"latent_dims": (4,), "k": 4, "context_hidden": ()},
        "dynamics": {  # planners call it often; most of what happens is determined
            "latent_dims": (LATENTS,),
            "k": 4,
            "blocks": 1,
            "prior_components": 8,
        },
    }

    def __init__(
        self,
        context_dim: int,
        event_dim: int,
        *,
        latent_dims: Sequence[int] | None = None,
        prior: str = "mixture",
        prior_components: int = 16,
        prior_weights: str = "learned",
        objective: str = "iwae-k",
        k: int | None = None,
        encoder_gradient: str = "dreg",
        hidden: int = 64,
        blocks: int = 2,
        context_hidden: Sequence[int] = (64, 64),
        log_sigma_bounds: tuple[float, float] = (-7.0, 2.0),
        latent_log_sigma_bounds: tuple[float, float] = (-5.0, 2.0),
        initial_log_sigma: float | None = None,
        defensive: float = 0.1,
        whole: bool = False,
    ) -> None:
        super().__init__(context_dim, event_dim, whole=whole)
        check_choice("prior", prior, PRIORS)
        check_positive("prior_components", prior_components, at_most=MOST)
        check_choice("prior_weights", prior_weights, ("learned", "equal"))
        check_positive("hidden", hidden, at_most=MOST)
        own = min(event_dim, hidden // 2)
        wide = latent_dims is None and not whole and own > LATENTS
        if latent_dims is None:
            latent_dims = (own,) if wide else (LATENTS,)
        dims = check_sizes("latent_dims", latent_dims, at_most=MOST_LATENTS)
        check_positive("blocks", blocks, at_least=0)
        widths = check_sizes("context_hidden", context_hidden, allow_empty=True)
        decoder_range = decoder_log_sigma_range(log_sigma_bounds, whole)
        latent_range = check_range("latent_log_sigma_bounds", latent_log_sigma_bounds)
        self._set_objective(objective, k, encoder_gradient, defensive)

        embedding = widths[-1] if widths else context_dim
        generative, recognition = film_layers(
            (event_dim, *dims),
            embedding,
            (decoder_range, latent_range),
            WholeLayer if whole else NormalLayer,
            hidden=hidden,
            blocks=blocks,
        )
        top = make_prior(prior, embedding, dims[-1], prior_components, prior_weights, broad=wide)
        if wide:
            near_identity(generative[0], recognition[0])
        if initial_log_sigma is not None:
            generative[0].start_at(initial_log_sigma)
        self.chain = LatentChain(
            top, generative, recognition, mlp(context_dim, widths), mlp(context_dim, widths)
        )
        self.latent_dims = dims

    @classmethod
    def from_chain(
        cls,
        chain: LatentChain,
        *,
        context_dim: int,
        event_dim: int,
        latent_dims: Sequence[int],
        objective: str = "iwae-k",
        k: int | None = None,
        encoder_gradient: str = "dreg",
        defensive: float = 0.1,
    ) -> CVAE:
        """A CVAE over custom layers; `vaerl.densities.layers` describes their interface."""
        density = cls.__new__(cls)
        ConditionalDensity.__init__(density, context_dim, event_dim)
        density._set_objective(objective, k, encoder_gradient, defensive)
        density.chain = chain
        density.latent_dims = check_sizes("latent_dims", latent_dims)
        if chain.depth != len(density.latent_dims):
            raise ValueError(
                f"latent_dims: got {len(density.latent_dims)} sizes, "
                f"the chain has {chain.depth} layers"
            )
        return density

    def _set_objective(
        self, objective: str, k: int | None, encoder_gradient: str, defensive: float
    ) -> None:
        self.objective = check_choice("objective", objective, OBJECTIVES)
        if k is None:
            k = 1 if objective == "elbo" else 16
        self.k = check_positive("k", k, at_most=MOST)
        if objective == "elbo" and k != 1:
            raise ValueError(
                f"k: got {k}, objective 'elbo' takes 1 sample; use 'vae-k' or 'iwae-k'"
            )
        self.encoder_gradient = check_choice(
            "encoder_gradient", encoder_gradient, bounds.EncoderGradient.NAMES
        )
        if encoder_gradient == "wake" and (objective != "iwae-k" or k < 2):
            raise ValueError(
                f"encoder_gradient: got 'wake' with objective {objective!r} and k = {k}, "
                "expected objective 'iwae-k' and k of at least 2: one sample has no wake direction"
            )
        self.defensive = check_share("defensive", defensive)

    def kernel(self) -> Kernel | None:
        return self.chain.kernel(self.defensive) if type(self) is CVAE else None

    # -- fitting -----------------------------------------------------------------------------------

    def _loss(
        self,
        context: Tensor,
        x: Tensor,
        change: Tensor | float,
        diagnostics: bool,
        kl_weight: float,
        generator: Noise,
    ) -> tuple[Tensor, Info]:
        """−L_k(x | c) ``batch`` with the chosen encoder gradient, and diagnostics.

        With `kl_weight` β the log-weights are log p(x | h, c) − β log q(h | x, c) / p(h | c). Below
        1 this is not a bound. It serves the first steps of a fit (KL warm-up, Bowman et al. 2016):
        latents that cost nothing separate rare modes that would otherwise stay merged.

        Diagnostics (0-d, without gradient): ``nll_bound`` (the mean loss), ``elbo``, ``bound_gap``
        (L_k − ELBO, the gain from k samples), ``ess_ratio`` (effective sample size over k),
        ``kl_layer_l`` and ``active_units_l`` for each layer; ``diagnostics=False`` skips the active
        units, which cost a further pass.
        """
        bound, log_p, log_q, log_w = self._training_bound(context, x, generator, kl_weight)
        loss = change - bound
        with torch.no_grad():
            if kl_weight != 1.0:
                log_w = log_w + (1.0 - kl_weight) * (sum_layers(log_p) - sum_layers(log_q))
            elbo, tight = bounds.elbo(log_w), bounds.iwae(log_w)
            objective = tight if self.objective == "iwae-k" else elbo
            info = {
                "nll_bound": (change - objective).mean(),
                "elbo": (elbo - change).mean(),
                "bound_gap": (tight - elbo).mean(),
                "ess_ratio": bounds.effective_sample_size(log_w).mean() / self.k,
            }
            for l, rate in enumerate(bounds.kl_per_layer(log_q, log_p), start=1):
                info[f"kl_layer_{l}"] = rate
            if diagnostics:
                info |= self.active_units(context, x, generator=generator)
        return loss, info

    def _training_bound(
        self, context: Tensor, x: Tensor, generator: Noise, kl_weight: float
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """The objective with the chosen gradient, per-layer log p(z | c), log q, and the
        log-weights of k paths."""
        chain, average = self.chain, self.objective != "iwae-k"
        gradient = bounds.EncoderGradient(
            "stl" if average and self.encoder_gradient == "dreg" else self.encoder_gradient
        )
        native = chain.conditioned(context, x, self.k)
        if native is not None:
            noise = standard_normal((self.k, *x.shape[:-1], *self.latent_dims), x, generator)
            found = native.bound(x, noise, kl_weight, average, gradient.name)
            return found.bound, [found.log_p], [found.log_q], found.log_w
        p, q = chain.condition(context)
        path, laws = chain.infer(q, x, (self.k,), generator)
        leaves = gradient.leaves(path)
        if gradient.name == "total":
            log_q = chain.log_q_layers(q, laws[0], leaves)
        else:
            log_q = chain.log_q_layers_fixed(q, laws, leaves)
        log_p = chain.log_prior_layers(p, leaves)
        ratio = sum_layers(log_p) - sum_layers(log_q)
        log_w = chain.decode(p, leaves).log_prob(x) + (
            ratio if kl_weight == 1.0 else kl_weight * ratio
        )
        if gradient.name in ("dreg", "wake"):
            gradient.set_weights(log_w)
        return (bounds.elbo if average else bounds.iwae)(log_w), log_p, log_q, log_w

    def active_units(
        self,
        context: Tensor,
        x: Tensor,
        samples: int = 16,
        threshold: float = 0.01,
        generator: Noise = None,
    ) -> Info:
        """Conditional active units of each layer, ``active_units_l``: units whose posterior mean
        depends on x.

        A_u = Var over (x, c) of (μ_q,u(x, c) − μ_p,u(c)) / σ_p,u(c) > threshold: the part the prior
        does not explain. Means of layers above the first (and moments of the prior below the top)
        are taken over `samples` paths, in two independent halves whose covariance is free of
        Monte-Carlo bias.
        """
        context, x = self._check_pair(context, x)
        check_positive("samples", samples, at_least=2)
        with torch.no_grad():
            halves = [self.chain.deviations(context, x, samples, generator) for _ in range(2)]
            return {
                f"active_units_{l}": bounds.active_units(
                    a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), threshold
                )
                for l, (a, b) in enumerate(zip(*halves, strict=True), start=1)
            }

    def recognition_parameters(self) -> list[nn.Parameter]:
        chain = self.chain
        return [*chain.recognition.parameters(), *chain.recognition_context.parameters()]

    def sleep_losses(
        self,
        contexts: Tensor,
        generator: Noise = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[Tensor]:
        return sleep_losses(self.chain, self.defensive, contexts, generator, change)
