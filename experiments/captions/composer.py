"""Images from captions, thing by thing: colour and shape come from the words that name them.

A conditional VAE whose latent is z = (z_1, …, z_K), one code for each of K things:

    words        h_k = biLSTM(caption)_k, which knows the sentence; v_k, which knows the word alone
    reading      α_ta = softmax_k(β q_ta · (U h_k + b)),  r_ta = Σ_k α_tak v_k
                 for each thing t and aspect a: place, colour, shape
    place        m_t, o_t = MLP(r_t,place, e_t): centre and opacity; e_t is learned for each t
    colour       c_t = σ(V r_t,colour + b'), a share of each channel
    shape        s_t = σ(MLP(r_t,shape, z_t)): ink of N × N pixels
    image        x ~ Bern(1 − (1 − ε) Π_t (1 − o_t c_t min(1, F_yᵀ s_t F_x)))
                 with filters F at m_t + W z_t and ε of the background
    recognition  q(z_t | x, caption) = N(MLP(F_y x F_xᵀ at m_t, r_t,shape)),  p(z) = N(0, I)

A thing that the caption does not name gets an empty shape. A read is a mean of words' own vectors,
so it can tell little of the sentence. How the weights are spread still tells something, and place
makes use of it: this is a bias towards new combinations, no guarantee. The window is as small as a
digit, so that the shape cannot tell the place. Two schedules keep the words from being ignored
(`Composition.schedule`): attention is uniform at first, so that words mean something before one is
chosen, and the KL weighs more at first, so that a digit is cheaper to read than to encode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaerl.densities.bernoulli import Bernoulli
from vaerl.densities.chain import Generative, LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.normal import DiagonalNormal
from vaerl.experiments.captions.data import IMAGE, LENGTH, SIDE, VOCABULARY
from vaerl.nets import mlp, smooth_range
from vaerl.words import WordEncoder

ASPECTS_READ = ("place", "colour", "shape")
CHANNELS = 3
SOFTNESS = 0.5
"""Standard deviation of the filters that paint and look, in pixels."""
OPAQUE = 1.0 - 1e-3
"""The most that a thing covers of a pixel."""


@dataclass(frozen=True)
class Composition:
    """Sizes of the composer, and the parts that an ablation takes away."""

    things: int = 2
    #: of each thing
    latent: int = 16
    vector: int = 32
    #: of the word states, each way
    words: int = 32
    width: int = 256
    #: side of the window that a thing is painted in
    window: int = 12
    #: whether a read gives the words' own vectors; else their states, which know the sentence
    own_vectors: bool = True
    #: β of a trained reader
    sharpness: float = 3.0
    #: share of the training in which attention is uniform, β = 0, and in which β then grows
    uniform: float = 0.1
    sharpen: float = 0.6
    #: weight of the KL at the start; it falls to 1 over the first half
    kl: float = 4.0

    def schedule(self, share: float) -> tuple[float, float]:
        """The sharpness β of attention, and the weight of the KL, after a share of the training."""
        later = share - self.uniform
        grown = later / self.sharpen if self.sharpen else float(later >= 0.0)
        weight = self.kl - (self.kl - 1.0) * 2.0 * share
        return self.sharpness * min(1.0, max(0.0, grown)), max(1.0, weight)


ABLATIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "composer-states": {"own_vectors": False},
        "composer-wide": {"window": 16},
        "composer-sharp": {"uniform": 0.0, "sharpen": 0.0},
        "composer-kl": {"kl": 1.0},
    }
)
"""What each ablation has instead."""


class Reading(NamedTuple):
    """What a caption says about each of K things."""

    #: (*batch, K, 2) row and column, and (*batch, K)
    centre: Tensor
    opacity: Tensor
    #: (*batch, K, CHANNELS)
    colour: Tensor
    #: (*batch, K, V)
    shape: Tensor
    #: α (*batch, K, 3, W), in the order of `ASPECTS_READ`
    attention: Tensor


class Reader(nn.Module):
    """Captions (token ids as floats) → `Reading`."""

    def __init__(self, sizes: Composition) -> None:
        super().__init__()
        self.sizes, self.sharpness = sizes, sizes.sharpness
        state, vector = 2 * sizes.words, sizes.vector
        self.encoder = WordEncoder(len(VOCABULARY), vector, sizes.words)
        with torch.no_grad():  # words that mean nothing yet must not be noise
            self.encoder.embed.weight.mul_(0.1)
        self.keys = nn.Linear(state, vector)
        self.queries = nn.Parameter(0.3 * torch.randn(sizes.things, len(ASPECTS_READ), vector))
        self.which = nn.Parameter(0.1 * torch.randn(sizes.things, 8))
        read = self.read_dim
        self.place = mlp(read + 8, (64,), 3, "relu")
        last: Any = self.place[-1]
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
        self.colour = nn.Linear(read, CHANNELS)

    @property
    def read_dim(self) -> int:
        """V, the size of a read."""
        return self.sizes.vector if self.sizes.own_vectors else 2 * self.sizes.words

    def forward(self, tokens: Tensor) -> Reading:
        """Read captions ``(*batch, LENGTH)``."""
        words = self.encoder(tokens)
        energies = torch.einsum("...kd,tad->...tak", self.keys(words.states), self.queries)
        mask = words.mask[..., None, None, :]
        sharpness = self.sharpness if self.training else self.sizes.sharpness
        energies = (sharpness * energies).masked_fill(~mask, torch.finfo(energies.dtype).min)
        attention = torch.softmax(energies, dim=-1) * mask
        values = words.vectors if self.sizes.own_vectors else words.states
        assert values is not None, "the encoder gives the words' vectors"
        place, colour, shape = (attention @ values.unsqueeze(-3)).unbind(-2)
        which = self.which.expand(*place.shape[:-1], -1)
        where = self.place(torch.cat([place, which], dim=-1))
        return Reading(
            0.5 * (SIDE - 1) + 0.5 * SIDE * where[..., :2],
            torch.sigmoid(where[..., 2]),
            torch.sigmoid(self.colour(colour)),
            shape,
            attention,
        )


def filters(centre: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """F_y and F_x ``(*batch, count, SIDE)`` of a window at ``(*batch, 2)``: pixels one apart."""
    steps = torch.arange(count, dtype=centre.dtype, device=centre.device) - 0.5 * (count - 1)
    pixels = torch.arange(SIDE, dtype=centre.dtype, device=centre.device)
    away = (pixels - (centre.unsqueeze(-1) + steps).unsqueeze(-1)) / SOFTNESS
    rows, columns = torch.exp(-0.5 * away.square()).unbind(-3)
    return rows, columns


class Prior(nn.Module):
    """p(z) = N(0, I), whatever the caption."""

    def __init__(self, sizes: Composition) -> None:
        super().__init__()
        self.size = sizes.things * sizes.latent

    def forward(self, reading: Reading) -> DiagonalNormal:
        """For each caption ``(*batch, K·Z)``."""
        zero = reading.opacity.new_zeros(*reading.opacity.shape[:-1], self.size)
        return DiagonalNormal(zero, zero)


class Painter(nn.Module):
    """p(x | z, caption): all things, painted one over the other."""

    def __init__(self, sizes: Composition, read_dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.word = mlp(read_dim, (128,), sizes.width, "relu")
        self.code = nn.Linear(sizes.latent, sizes.width)
        self.ink = mlp(sizes.width, (sizes.width,), sizes.window**2, "relu")
        self.shift = nn.Linear(sizes.latent, 2, bias=False)
        self.background = nn.Parameter(torch.tensor(-6.0))
        last: Any = self.ink[-1]
        with torch.no_grad():
            last.bias.fill_(-2.0)
            self.shift.weight.mul_(0.1)

    def condition(self, reading: Reading) -> Reading:
        """The reading itself."""
        return reading

    def forward(self, z: Tensor, reading: Reading) -> Bernoulli:
        """The image's law for codes ``sample_shape + batch + (K·Z,)``."""
        codes = z.unflatten(-1, (self.sizes.things, self.sizes.latent))
        hidden = torch.relu(self.word(reading.shape) + self.code(codes))
        ink = torch.sigmoid(self.ink(hidden)).unflatten(-1, (self.sizes.window, -1))
        rows, columns = filters(reading.centre + self.shift(codes), self.sizes.window)
        painted = (rows.mT @ ink @ columns).clamp(max=1.0)
        colour = (reading.opacity.unsqueeze(-1) * reading.colour)[..., None, :, None]
        covered = (painted.unsqueeze(-2) * colour).clamp(max=OPAQUE)  # (…, K, SIDE, CHANNELS, SIDE)
        log_off = torch.log1p(-covered).sum(-4) + nn.functional.logsigmoid(-self.background)
        return Bernoulli((torch.log(-torch.expm1(log_off)) - log_off).flatten(-3))


class Recogniser(nn.Module):
    """q(z | x, caption): each thing from what is seen where the caption puts it."""

    def __init__(self, sizes: Composition, read_dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.child_dim = sizes.things * sizes.latent
        inputs = sizes.window**2 + read_dim
        self.look = mlp(inputs, (sizes.width, sizes.width), 2 * sizes.latent, "relu")

    def condition(self, reading: Reading) -> Reading:
        """The reading itself."""
        return reading

    def forward(self, x: Tensor, reading: Reading) -> DiagonalNormal:
        """The codes' law for images ``(..., IMAGE)``."""
        lit = x.unflatten(-1, (SIDE, CHANNELS, SIDE)).amax(-2).unsqueeze(-3)
        rows, columns = filters(reading.centre, self.sizes.window)
        seen = (rows @ lit @ columns.mT).flatten(-2)
        shape = reading.shape.expand(*seen.shape[:-1], -1)
        mean, raw = self.look(torch.cat([seen, shape], dim=-1)).chunk(2, dim=-1)
        return DiagonalNormal(mean.flatten(-2), smooth_range(raw, -5.0, 2.0).flatten(-2))


class Composer(LatentChain):
    """A `LatentChain` of one layer, whose p and q read a caption once."""

    def __init__(self, sizes: Composition) -> None:
        reader = Reader(sizes)
        painter = Painter(sizes, reader.read_dim)
        recogniser = Recogniser(sizes, reader.read_dim)
        super().__init__(Prior(sizes), [painter], [recogniser], reader, reader)

    def condition(self, context: Tensor) -> tuple[Generative, tuple[Any, ...]]:
        """p and q over one reading."""
        reading = self.generative_context(context)
        return Generative(self.prior(reading), (reading,)), (reading,)

    def prepare(self, share: float) -> float:
        """Set β for an update after a share of the training; the weight of the KL in it."""
        reader: Any = self.generative_context
        reader.sharpness, weight = reader.sizes.schedule(share)
        return weight


def build_composer(sizes: Composition, seed: int = 0, **objective: Any) -> CVAE:
    """The untrained density p(image | caption): context token ids ``(*batch, LENGTH)`` as floats.

    `objective` holds what `CVAE.from_chain` takes: objective, k, encoder_gradient.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chain = Composer(sizes)
    return CVAE.from_chain(
        chain,
        context_dim=LENGTH,
        event_dim=IMAGE,
        latent_dims=(sizes.things * sizes.latent,),
        defensive=0.0,
        **objective,
    )
