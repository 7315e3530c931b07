"""Images from captions by a chain of conditional VAEs with shared weights and a learned prior.

alignDRAW (Mansimov, Parisotto, Ba & Salakhutdinov 2016). T steps draw on a canvas c:

    words        h_k = biLSTM(caption)_k,  s_t = attention over h_k asked by d_{t−1}
    recognition  r_t = relu(W [read(x), read(x − σ(c_{t−1}))]),  g_t = LSTM(g_{t−1}, [r_t, d_{t−1}])
                 q(z_t | z_<t, x) = N(W g_t, diag exp(W' g_t)²)
    prior        p(z_t | z_<t) = N(tanh(W d_{t−1}), diag exp(tanh(W' d_{t−1}))²), p(z_1) = N(0, I)
    generation   d_t = LSTM(d_{t−1}, [z_t, s_t]);  c_t = c_{t−1} + write(d_t);  x ~ Bern(σ(c_T))

For the core this is one `LatentChain` whose single latent is the whole path z = (z_1, …, z_T), with
laws that factorise over the steps: bounds, their gradients and every call of a `CVAE` are the same.
Recognition reads canvas and d_{t−1}, so p and q share parameters. The doubly reparameterised
gradient stays right: it is Σ ŵ ∇ log p at fixed z plus ŵ² times the path's gradient, whichever
parameters the path depends on, where log q is evaluated with all parameters fixed (`detach`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vaerl.densities.bernoulli import Bernoulli
from vaerl.densities.chain import Generative, LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.noise import Noise, Shape, standard_normal
from vaerl.densities.normal import DiagonalNormal
from vaerl.experiments.captions.data import IMAGE, LENGTH, SIDE, VOCABULARY
from vaerl.nets import smooth_range
from vaerl.words import WordAttention, WordEncoder, Words


@dataclass(frozen=True)
class Sizes:
    """Sizes of the drawing chain."""

    steps: int = 6
    latent: int = 16
    state: int = 128
    #: of the word states, each way
    words: int = 32
    #: of the alignment layer
    alignment: int = 32
    #: side of the window that is written, and of the two that are read
    pen: int = 10
    eye: int = 12


@dataclass(frozen=True)
class Drawing:
    """One pass through all steps for R rows."""

    #: the path (R, T·Z)
    z: Tensor
    prior: DiagonalNormal
    #: None where no image was given
    posterior: DiagonalNormal | None
    #: c_0 … c_T, each (R, IMAGE): logits
    canvases: tuple[Tensor, ...]
    #: α (R, T, W)
    attention: Tensor


class Window(nn.Module):
    """A grid of N × N Gaussian filters on the canvas, placed by a state (Gregor et al. 2015).

    Centre, stride, width and intensity γ come from one linear layer. At first the grid covers a
    share `cover` of the canvas' side.
    """

    def __init__(self, state: int, count: int, cover: float = 1.0, gain: float = 1.0) -> None:
        super().__init__()
        self.count = count
        self.place = nn.Linear(state, 5)
        with torch.no_grad():
            self.place.bias.copy_(torch.tensor([0.0, 0.0, math.log(cover), 0.0, math.log(gain)]))

    def filters(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows F_y and columns F_x ``(R, N, SIDE)``, at most 1 at the filter's centre, and γ."""
        raw = self.place(state)
        centre = 0.5 * (SIDE - 1) * (raw[:, :2] + 1.0)
        stride = (SIDE - 1) / (self.count - 1) * torch.exp(raw[:, 2:3])
        scale = math.sqrt(0.5) / (0.5 * stride * torch.exp(raw[:, 3:4])).clamp_min(0.1)
        grid = torch.arange(self.count, dtype=raw.dtype, device=raw.device)
        means = centre.unsqueeze(-1) + (grid - 0.5 * (self.count - 1)) * stride.unsqueeze(-1)
        pixel = torch.arange(SIDE, dtype=raw.dtype, device=raw.device)
        away = (pixel - means.unsqueeze(-1)) * scale[:, :, None, None]
        bank = torch.exp(-away.square())
        return bank[:, 0], bank[:, 1], torch.exp(raw[:, 4:5])

    def read(self, images: Tensor, filters: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """γ F_y x F_xᵀ in each channel, filters of sum 1: ``(R, 3·N·N)`` of ``(R, IMAGE)``."""
        rows, columns, gain = filters
        weight = rows.sum(-1).unsqueeze(-1) * columns.sum(-1).unsqueeze(-2)
        part = (rows @ images.reshape(-1, SIDE, 3 * SIDE)).reshape(-1, self.count * 3, SIDE)
        seen = (part @ columns.transpose(1, 2)).reshape(-1, self.count, 3, self.count)
        factor = gain.unsqueeze(-1) / weight.clamp_min(1e-4)
        return (seen * factor.unsqueeze(2)).flatten(1)

    def write(self, patch: Tensor, filters: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """F_yᵀ patch F_x / γ ``(R, IMAGE)``."""
        rows, columns, gain = filters
        part = (patch / gain).reshape(-1, self.count * 3, self.count) @ columns
        return (rows.transpose(1, 2) @ part.reshape(-1, self.count, 3 * SIDE)).flatten(1)


class DrawingNet(nn.Module):
    """Both networks of the chain, one step after the other, with weights shared by the steps."""

    def __init__(self, sizes: Sizes, mean_image: Tensor) -> None:
        super().__init__()
        self.sizes = sizes
        word = 2 * sizes.words
        self.attention = WordAttention(word, sizes.state, sizes.alignment)
        self.start = nn.Parameter(torch.logit(mean_image.clamp(0.001, 0.999)))
        self.prior = nn.Linear(sizes.state, 2 * sizes.latent)
        self.draw = nn.LSTMCell(sizes.latent + word, sizes.state)
        self.pen = Window(sizes.state, sizes.pen, cover=0.5, gain=0.25)
        self.patch = nn.Linear(sizes.state, 3 * sizes.pen**2)
        self.eye = Window(sizes.state, sizes.eye)
        self.glance = nn.Linear(6 * sizes.eye**2, sizes.state)
        self.look = nn.LSTMCell(2 * sizes.state, sizes.state)
        self.posterior = nn.Linear(sizes.state, 2 * sizes.latent)
        with torch.no_grad():  # z matters from the start; otherwise training ignores it for long
            self.posterior.bias[sizes.latent :].fill_(-1.0)
            self.posterior.weight[: sizes.latent] *= 4.0
            self.draw.weight_ih[:, : sizes.latent] *= 4.0

    def forward(self, words: Words, x: Tensor | None, z: Tensor | None, noise: Tensor) -> Drawing:
        """Draw R rows along the path `z` ``(R, T·Z)``, or, without it, along the one that `noise`
        ``(R, T·Z)`` gives under q(z | x, words) where there is x ``(R, IMAGE)``, else under p."""
        steps, size = self.sizes.steps, self.sizes.latent
        source = noise if z is None else z
        count = source.shape[0]
        keys = self.attention.keys(words)
        d = cell = g = memory = source.new_zeros(count, self.sizes.state)
        canvas = self.start.expand(count, IMAGE)
        path, priors, posteriors, canvases, attended = [], [], [], [canvas], []
        for t in range(steps):
            part = source[:, t * size : (t + 1) * size]
            mean, log_sigma = torch.tanh(self.prior(d)).chunk(2, dim=-1)
            law = DiagonalNormal(mean, log_sigma)
            if t == 0:
                law = DiagonalNormal(torch.zeros_like(mean), torch.zeros_like(mean))
            priors.append(law)
            if x is not None:
                filters = self.eye.filters(d)
                image, drawn = (self.eye.read(y, filters) for y in (x, torch.sigmoid(canvas)))
                glance = torch.relu(self.glance(torch.cat([image, image - drawn], dim=-1)))
                g, memory = self.look(torch.cat([glance, d], dim=-1), (g, memory))
                mean, raw = self.posterior(g).chunk(2, dim=-1)
                law = DiagonalNormal(mean, smooth_range(raw, -5.0, 2.0))
                posteriors.append(law)
            path.append(law.at(part) if z is None else part)
            read, weights = self.attention(d, words, keys)
            d, cell = self.draw(torch.cat([path[-1], read], dim=-1), (d, cell))
            canvas = canvas + self.pen.write(self.patch(d), self.pen.filters(d))
            canvases.append(canvas)
            attended.append(weights)
        return Drawing(
            torch.cat(path, dim=-1) if z is None else z,
            _joined(priors),
            _joined(posteriors) if posteriors else None,
            tuple(canvases),
            torch.stack(attended, dim=1),
        )


def _joined(laws: list[DiagonalNormal]) -> DiagonalNormal:
    """The law of all steps, whose log-density is the sum over them."""
    return DiagonalNormal(
        torch.cat([law.mean for law in laws], -1), torch.cat([law.log_sigma for law in laws], -1)
    )


class Reading:
    """Captions as read, and the drawing made last, so that prior and decoder share one pass."""

    def __init__(
        self, net: DrawingNet, words: Words, parameters: Mapping[str, Tensor] | None = None
    ) -> None:
        self.net, self.words, self.parameters = net, words, parameters
        self._last: tuple[Tensor, Tensor | None, bool, Drawing] | None = None

    def fixed(self) -> Reading:
        """The same with words and parameters held fixed; inputs stay live."""
        words = Words(self.words.states.detach(), self.words.mask)
        return Reading(self.net, words, {n: p.detach() for n, p in self.net.named_parameters()})

    def along(self, z: Tensor, x: Tensor | None = None) -> Drawing:
        """The drawing along paths ``sample_shape + batch + (T·Z,)``; `x` broadcasts against
        them."""
        if self._last is not None:
            path, image, live, drawing = self._last
            if path is z and (x is None or image is x) and live is torch.is_grad_enabled():
                return drawing
        return self._keep(z, x, self._run(z.shape[:-1], x, z=z))

    def fresh(self, noise: Tensor, x: Tensor | None = None) -> Tensor:
        """Paths from noise ``sample_shape + batch + (T·Z,)``, under q where there is x, else p."""
        drawing = self._run(noise.shape[:-1], x, noise=noise)
        z = drawing.z.reshape(noise.shape)
        self._keep(z, x, drawing)
        return z

    def _keep(self, z: Tensor, x: Tensor | None, drawing: Drawing) -> Drawing:
        self._last = (z, x, torch.is_grad_enabled(), drawing)
        return drawing

    def _run(
        self,
        shape: torch.Size,
        x: Tensor | None,
        z: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Drawing:
        states, mask = self.words.states, self.words.mask
        rows = Words(
            states.expand(*shape, *states.shape[-2:]).flatten(0, -3),
            mask.expand(*shape, mask.shape[-1]).flatten(0, -2),
        )
        arguments = (
            rows,
            None if x is None else x.expand(*shape, IMAGE).reshape(-1, IMAGE),
            None if z is None else z.reshape(-1, z.shape[-1]),
            None if noise is None else noise.reshape(-1, noise.shape[-1]),
        )
        if self.parameters is None:
            return self.net(*arguments)
        return functional_call(self.net, dict(self.parameters), arguments)


class PathLaw:
    """p(z | caption) without an image, q(z | x, caption) with one; z is the whole path."""

    def __init__(self, reading: Reading, x: Tensor | None = None) -> None:
        self.reading, self.x = reading, x

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """Paths ``sample_shape + batch + (T·Z,)``, step by step."""
        sizes = self.reading.net.sizes
        like = self.reading.words.states
        batch = like.shape[:-2] if self.x is None else self.x.shape[:-1]
        shape = (*sample_shape, *batch, sizes.steps * sizes.latent)
        return self.reading.fresh(standard_normal(shape, like, generator), self.x)

    def place(self, u: Tensor, noise: Tensor) -> Tensor:
        """The paths that N(0, I) noise maps to; there is no component for u to pick."""
        return self.reading.fresh(noise, self.x)

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_t log N(z_t | z_<t) in nats; inputs z_<t are live."""
        drawing = self.reading.along(z, self.x)
        law = drawing.prior if self.x is None else drawing.posterior
        assert law is not None, "a drawing made with an image has a posterior"
        return law.log_prob(z.reshape(-1, z.shape[-1])).reshape(z.shape[:-1])

    def detach(self) -> PathLaw:
        """The same law with all parameters fixed, of p's part as of q's own."""
        return PathLaw(self.reading.fixed(), self.x)


class Reader(nn.Module):
    """Captions (token ids as floats) → `Reading`."""

    def __init__(self, encoder: WordEncoder, net: DrawingNet) -> None:
        super().__init__()
        self.encoder, self.net = encoder, net

    def forward(self, tokens: Tensor) -> Reading:
        """Read captions ``(*batch, LENGTH)``."""
        return Reading(self.net, self.encoder(tokens))


class PathPrior(nn.Module):
    """The learned sequential prior, as the prior of a `LatentChain`."""

    def forward(self, reading: Reading) -> PathLaw:
        """p(z | caption)."""
        return PathLaw(reading)


class CanvasLayer(nn.Module):
    """p(x | z, caption) = Bernoulli(σ(c_T))."""

    def condition(self, reading: Reading) -> Reading:
        """The reading, whose drawing along z the prior uses as well."""
        return reading

    def forward(self, z: Tensor, reading: Reading) -> Bernoulli:
        """The image's law for each path."""
        return Bernoulli(reading.along(z).canvases[-1].reshape(*z.shape[:-1], IMAGE))


class PathRecogniser(nn.Module):
    """q(z | x, caption), step by step over the same canvas."""

    def condition(self, reading: Reading) -> Reading:
        """The reading."""
        return reading

    def forward(self, x: Tensor, reading: Reading) -> PathLaw:
        """The path's law for images ``(..., IMAGE)``."""
        return PathLaw(reading, x)


class DrawingChain(LatentChain):
    """A `LatentChain` of one layer, the path; p and q read a caption once and share drawings."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(PathPrior(), [CanvasLayer()], [PathRecogniser()], reader, reader)

    def condition(self, context: Tensor) -> tuple[Generative, tuple[Any, ...]]:
        """p and q over one reading: a path drawn under q needs no second pass under p."""
        reading = self.generative_context(context)
        return Generative(PathLaw(reading), (reading,)), (reading,)  # type: ignore[arg-type]


def build_drawer(sizes: Sizes, mean_image: Tensor, seed: int = 0, **objective: Any) -> CVAE:
    """The untrained density p(image | caption): context token ids ``(*batch, LENGTH)`` as floats.

    `objective` holds what `CVAE.from_chain` takes: objective, k, encoder_gradient.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DrawingNet(sizes, mean_image)
        reader = Reader(WordEncoder(len(VOCABULARY), 32, sizes.words), net)
    return CVAE.from_chain(
        DrawingChain(reader),
        context_dim=LENGTH,
        event_dim=IMAGE,
        latent_dims=(sizes.steps * sizes.latent,),
        defensive=0.0,
        **objective,
    )
