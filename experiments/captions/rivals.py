"""Rivals of the drawing chain: CVAEs that see the caption as one vector and draw in one step.

    fully connected   q(z | x, c): 2352 → 256 → 256;   p(x | z, c): 64 → 256 → 256 → 2352
    convolutional     q: two convolutions of stride 2;  p: two transposed ones

c is the mean state of a bidirectional word encoder, p(z | c) a learned normal. Both are the core's
`CVAE`; only the networks are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.densities.bernoulli import Bernoulli
from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import GaussianPrior
from vaerl.densities.normal import DiagonalNormal
from vaerl.experiments.captions.data import IMAGE, LENGTH, VOCABULARY, as_channels, as_rows
from vaerl.names import check_name
from vaerl.nets import mlp, smooth_range
from vaerl.words import WordEncoder

RIVALS = ("connected", "convolutional")
LATENT = 64
WIDTH = 256
CHANNELS = (16, 32)


class CaptionVector(nn.Module):
    """Captions (token ids as floats) → mean word state ``(*batch, 2 · hidden)``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = WordEncoder(len(VOCABULARY), 32, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Read captions ``(*batch, LENGTH)``."""
        return self.encoder(tokens).mean()


class ConditionedLayer(nn.Module):
    """The child's law from a network over [parent, caption vector]; a layer of a `LatentChain`."""

    def __init__(self, net: nn.Module, law: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.law = net, law

    def condition(self, caption: Tensor) -> Tensor:
        """The caption vector itself."""
        return caption

    def forward(self, parent: Tensor, caption: Tensor) -> Any:
        """The child's law for each parent sample."""
        lead = torch.broadcast_shapes(parent.shape[:-1], caption.shape[:-1])
        joined = torch.cat([parent.expand(*lead, -1), caption.expand(*lead, -1)], dim=-1)
        return self.law(self.net(joined.reshape(-1, joined.shape[-1])).reshape(*lead, -1))


def normal(output: Tensor) -> DiagonalNormal:
    """N(μ, diag σ²) from the halves of a network's output."""
    mean, raw = output.chunk(2, dim=-1)
    return DiagonalNormal(mean, smooth_range(raw, -5.0, 2.0))


class ConvEncoder(nn.Module):
    """[image row, caption] → parameters of q(z | x, c)."""

    def __init__(self, caption_dim: int) -> None:
        super().__init__()
        a, b = CHANNELS
        self.see = nn.Sequential(
            nn.Conv2d(3, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.join = mlp(b * 49 + caption_dim, (WIDTH,), 2 * LATENT, "relu")

    def forward(self, joined: Tensor) -> Tensor:
        """One row each."""
        seen = self.see(as_channels(joined[:, :IMAGE]))
        return self.join(torch.cat([seen, joined[:, IMAGE:]], dim=-1))


class ConvDecoder(nn.Module):
    """[z, caption] → logits of the image row."""

    def __init__(self, caption_dim: int) -> None:
        super().__init__()
        a, b = CHANNELS
        self.plan = mlp(LATENT + caption_dim, (WIDTH, b * 49), activation="relu")
        self.draw = nn.Sequential(
            nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(a, 3, 4, 2, 1)
        )
        self.start = nn.Parameter(torch.zeros(IMAGE))

    def forward(self, joined: Tensor) -> Tensor:
        """One row each."""
        return as_rows(self.draw(self.plan(joined).reshape(-1, CHANNELS[1], 7, 7))) + self.start


def build_rival(
    kind: str, mean_image: Tensor, seed: int = 0, words: int = 32, **objective: Any
) -> CVAE:
    """The untrained rival, "connected" or "convolutional"; see `build_drawer`."""
    check_name("rival", kind, RIVALS)
    caption = 2 * words
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "connected":
            decoder: Any = mlp(LATENT + caption, (WIDTH, WIDTH), IMAGE, "relu")
            start = decoder[-1].bias
            encoder: nn.Module = mlp(IMAGE + caption, (WIDTH, WIDTH), 2 * LATENT, "relu")
        else:
            decoder, encoder = ConvDecoder(caption), ConvEncoder(caption)
            start = decoder.start
        with torch.no_grad():
            start.copy_(torch.logit(mean_image.clamp(0.001, 0.999)))
        chain = LatentChain(
            GaussianPrior(caption, LATENT),
            [ConditionedLayer(decoder, Bernoulli)],
            [ConditionedLayer(encoder, normal)],
            CaptionVector(words),
            CaptionVector(words),
        )
    return CVAE.from_chain(
        chain,
        context_dim=LENGTH,
        event_dim=IMAGE,
        latent_dims=(LATENT,),
        defensive=0.0,
        **objective,
    )
