"""A chain of L stochastic layers: p(x, z | c) downward, q(z | x, c) upward, as sums of
log-densities.

    p(x, z | c) = p(x | h_1, c) · Π_{l=1}^{L−1} p(h_l | h_{l+1}, c) · p(h_L | c)
    q(z | x, c) = q(h_1 | x, c) · Π_{l=2}^{L} q(h_l | h_{l−1}, c)

with z = (h_1, …, h_L), h_1 next to the data. A path is the tuple of one sample of every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.func import functional_call

from vaerl.densities.base import Folded, Standardise
from vaerl.densities.fold import FoldedDensity, fold_stack
from vaerl.densities.kernel import Kernel, kernel_of
from vaerl.densities.noise import Noise, Shape
from vaerl.densities.normal import DiagonalNormal, NormalMixture
from vaerl.native.latent import Conditioned, Conditioning, covers, unhooked
from vaerl.native.library import plain
from vaerl.nets import smooth_range_terms

Path = tuple[Tensor, ...]


@dataclass(frozen=True)
class Generative:
    """p at given contexts: the top layer's prior, and each layer's conditioning (that of x
    first)."""

    prior: DiagonalNormal | NormalMixture
    conditioning: tuple[Any, ...]


class LatentChain(nn.Module):
    """Generative layers, prior and recognition layers of one conditional VAE.

    Args:
        prior: context → p(h_L | c).
        generative: L layers; number l gives p(h_l | h_{l+1}, c), with h_0 = x first.
        recognition: L layers; number l gives q(h_{l+1} | h_l, c), with h_0 = x first.
        generative_context, recognition_context: embeddings of the context, of p and of q; they
            share nothing, so that the gradient of the decoder stays unbiased.
    """

    def __init__(
        self,
        prior: nn.Module,
        generative: Sequence[nn.Module],
        recognition: Sequence[nn.Module],
        generative_context: nn.Module | None = None,
        recognition_context: nn.Module | None = None,
    ) -> None:
        super().__init__()
        assert len(generative) == len(recognition) >= 1, (len(generative), len(recognition))
        self.prior = prior
        self.generative = nn.ModuleList(generative)
        self.recognition = nn.ModuleList(recognition)
        self.generative_context: nn.Module = generative_context or nn.Identity()
        self.recognition_context: nn.Module = recognition_context or nn.Identity()

    @property
    def depth(self) -> int:
        """L, the number of stochastic layers."""
        return len(self.recognition)

    def condition(self, context: Tensor) -> tuple[Generative, tuple[Any, ...]]:
        """Prepare a context for p and q: `generate` and `recognise` together.

        A chain whose p and q share work on a context or along a path overrides it; one that changes
        `generate`, `place` or `decode` overrides `fold` as well.
        """
        return self.generate(context), self.recognise(context)

    def fold(
        self, inputs: Standardise | None = None, targets: Standardise | None = None
    ) -> Folded | None:
        """p(x | c) for sampling without gradients; None if a part has no such form."""
        steps = fold_stack(self.generative_context)
        prior, *layers = (_fold(part) for part in (self.prior, *self.generative))
        if steps is None or prior is None or None in layers:
            return None
        return FoldedDensity(steps, prior, layers, inputs, targets)

    def _kernels(self) -> tuple[Kernel, Kernel, Kernel] | None:
        """Those of decoder, encoder and prior, of a chain with one layer."""
        if type(self) is not LatentChain or self.depth != 1:
            return None
        parts: list[Any] = [self.generative[0], self.recognition[0], self.prior]
        decoder, encoder, prior = (kernel_of(part) for part in parts)
        if decoder is None or encoder is None or prior is None or decoder.sizes != encoder.sizes:
            return None
        return decoder, encoder, prior

    def kernel(self, defensive: float) -> Kernel | None:
        """The form for the native library, of a chain with one layer."""
        kernels = self._kernels()
        if kernels is None:
            return None
        decoder, encoder, prior = kernels
        return decoder.beside(encoder).beside(prior, share=defensive, **self._sizes())

    def _sizes(self) -> dict[str, Any]:
        contexts = (self.generative_context, self.recognition_context)
        generative, recognition = cast(Any, self.generative[0]), cast(Any, self.recognition[0])
        return {
            "latent": 1,
            "embedded": any(list(context.children()) for context in contexts),
            "latent_dim": recognition.child_dim,
            "action_range": smooth_range_terms(*generative.log_sigma_bounds),
            "latent_range": smooth_range_terms(*recognition.log_sigma_bounds),
        }

    def conditioned(
        self, context: Tensor, x: Tensor, paths: int, codes: Tensor | None = None
    ) -> Conditioned | None:
        """The chain at each context for the native library, if it covers it and this number of
        paths; with fixed `codes` without q."""
        kernels = self._kernels()
        if kernels is None:
            return None
        decoder, encoder, prior = kernels
        sizes = {**decoder.sizes, **prior.sizes, **self._sizes()}
        networks = [*decoder.network, *([] if codes is not None else encoder.network)]
        if not covers(sizes, networks, context, x, paths, codes) or not unhooked(self):
            return None
        parts = [Conditioning.of(self.generative_context, context, decoder.beside(prior))]
        if codes is None:
            parts.append(Conditioning.of(self.recognition_context, context, encoder))
        if parts[0].widths != parts[-1].widths or not all(plain(part.context) for part in parts):
            return None
        return Conditioned(parts, networks, sizes, prior.edges)

    # -- p(x, z | c) -------------------------------------------------------------------------------

    def generate(self, context: Tensor) -> Generative:
        """Prepare a context for p, once for all samples."""
        embedding = self.generative_context(context)
        return Generative(self.prior(embedding), _condition(self.generative, embedding))

    def sample_prior(
        self,
        p: Generative,
        sample_shape: Shape = (),
        generator: Noise = None,
    ) -> Path:
        """Ancestral paths z ~ p(z | c), each layer ``sample_shape + batch + (d_l,)``."""
        path = [p.prior.rsample(sample_shape, generator)]
        for layer in range(self.depth - 1, 0, -1):
            law = self.generative[layer](path[0], p.conditioning[layer])
            path.insert(0, law.rsample((), generator))
        return tuple(path)

    def place(self, p: Generative, u: Tensor, noise: Sequence[Tensor]) -> Path:
        """The path of fixed codes: u picks the prior's component, noise (h_1 first) the points."""
        path = [p.prior.place(u, noise[-1])]
        for layer in range(self.depth - 1, 0, -1):
            law = self.generative[layer](path[0], p.conditioning[layer])
            path.insert(0, law.at(noise[layer - 1]))
        return tuple(path)

    def decode(self, p: Generative, path: Path) -> Any:
        """p(x | h_1, c), a value with `log_prob` and `rsample`."""
        return self.generative[0](path[0], p.conditioning[0])

    def log_prior_layers(self, p: Generative, path: Path) -> list[Tensor]:
        """log p(h_l | h_{l+1}, c) for l = 1 … L, the last being log p(h_L | c)."""
        inner = [
            self.generative[l](path[l], p.conditioning[l]).log_prob(path[l - 1])
            for l in range(1, self.depth)
        ]
        return [*inner, p.prior.log_prob(path[-1])]

    # -- q(z | x, c) -------------------------------------------------------------------------------

    def recognise(self, context: Tensor) -> tuple[Any, ...]:
        """Prepare a context for q, once for all samples."""
        embedding = self.recognition_context(context)
        return _condition(self.recognition, embedding)

    def infer(
        self,
        q: tuple[Any, ...],
        x: Tensor,
        sample_shape: Shape = (),
        generator: Noise = None,
    ) -> tuple[Path, list[Any]]:
        """Paths z ~ q(z | x, c) with one encoder pass per x, and the law of each layer."""
        laws = [self.recognition[0](x, q[0])]
        path = [laws[0].rsample(sample_shape, generator)]
        for layer in range(1, self.depth):
            laws.append(self.recognition[layer](path[-1], q[layer]))
            path.append(laws[-1].rsample((), generator))
        return tuple(path), laws

    def log_q_layers(self, q: tuple[Any, ...], first_law: Any, path: Path) -> list[Tensor]:
        """log q(h_l | h_{l−1}, c) for l = 1 … L on any path; `first_law` is q(h_1 | x, c) from
        `infer`."""
        upper = [
            self.recognition[l](path[l - 1], q[l]).log_prob(path[l]) for l in range(1, self.depth)
        ]
        return [first_law.log_prob(path[0]), *upper]

    def log_q_layers_fixed(self, q: tuple[Any, ...], laws: list[Any], path: Path) -> list[Tensor]:
        """The same with the parameters of q held fixed and its **inputs live**, for x without
        gradient.

        Detaching mean and scale of every layer instead would cut the path from h_{l+1} through h_l,
        and bias the gradient of every layer below the top. `laws` are those that `infer` returned;
        only the first can be reused.
        """
        result = [laws[0].detach().log_prob(path[0])]
        for l in range(1, self.depth):
            layer = self.recognition[l]
            parameters = {name: value.detach() for name, value in layer.named_parameters()}
            law = functional_call(layer, parameters, (path[l - 1], _detach(q[l])))
            result.append(law.log_prob(path[l]))
        return result

    # -- both --------------------------------------------------------------------------------------

    def deviations(
        self, context: Tensor, x: Tensor, samples: int, generator: Noise
    ) -> list[Tensor]:
        """(μ_q − μ_p) / σ_p of every unit at pairs (c, x), for each layer, h_1 first.

        Means of layers above the first, and moments of the prior below the top, are taken over
        `samples` paths.
        """
        p, q = self.generate(context), self.recognise(context)
        _, laws = self.infer(q, x, (samples,), generator)
        posterior_means = [laws[0].moments()[0], *(law.moments()[0].mean(0) for law in laws[1:])]
        prior_path = self.sample_prior(p, (samples,), generator)
        result = []
        for l, posterior_mean in enumerate(posterior_means):
            if l == self.depth - 1:
                mean, sigma = p.prior.moments()
            else:
                law = self.generative[l + 1](prior_path[l + 1], p.conditioning[l + 1])
                means, sigmas = law.moments()
                mean = means.mean(0)
                sigma = (sigmas.square().mean(0) + means.var(0)).sqrt()
            result.append((posterior_mean - mean) / sigma)
        return result


def sum_layers(log_densities: list[Tensor]) -> Tensor:
    """Σ_l of the layers' log-densities: that of the whole path."""
    total = log_densities[0]
    for log_density in log_densities[1:]:
        total = total + log_density
    return total


def _condition(layers: nn.ModuleList, embedding: Tensor) -> tuple[Any, ...]:
    return tuple(cast(Any, layer).condition(embedding) for layer in layers)


def _fold(part: nn.Module) -> Any:
    fold: Any = getattr(part, "fold", None)
    return None if fold is None else fold()


def _detach(conditioning: Any) -> Any:
    if isinstance(conditioning, Tensor):
        return conditioning.detach()
    if isinstance(conditioning, tuple):
        return tuple(_detach(part) for part in conditioning)
    return conditioning
