"""A Laplacian pyramid of conditional GANs (Denton, Chintala, Szlam & Fergus 2015), in small.

x_7 and x_14 are the image halved twice and once. The lowest level draws x_7 from noise and the
caption; each higher one draws the residual x_s − up(x_{s/2}) from up(x_{s/2}), noise and the
caption. Every level has its own discriminator, trained with three kinds of rows as in Reed et al.
(2016): real, drawn, and real with another row's caption.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.experiments.captions.data import as_channels, as_rows
from vaerl.experiments.captions.rivals import CaptionVector

SIDES = (7, 14, 28)
NOISE = 32


class Level(nn.Module):
    """Generator and discriminator of one side length; the lowest has no coarser image."""

    def __init__(self, side: int, words: int, channels: int) -> None:
        super().__init__()
        self.side, self.lowest = side, side == SIDES[0]
        self.drawer_words, self.critic_words = CaptionVector(words), CaptionVector(words)
        caption, pixels = 2 * words, 3 * side * side
        quarter = (side // 4) ** 2
        if self.lowest:
            self.draw: nn.Module = nn.Sequential(
                nn.Linear(NOISE + caption, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
                nn.Linear(256, pixels), nn.Sigmoid(),
            )  # fmt: skip
            self.see: nn.Module = nn.Flatten()
            seen = pixels
        else:
            self.spread = nn.Linear(NOISE + caption, channels)
            self.draw = nn.Sequential(
                nn.Conv2d(4 + channels, channels, 3, 1, 1), nn.ReLU(),
                nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(),
                nn.Conv2d(channels, 3, 3, 1, 1), nn.Tanh(),
            )  # fmt: skip
            self.see = nn.Sequential(
                nn.Conv2d(6, channels, 4, 2, 1), nn.LeakyReLU(0.2),
                nn.Conv2d(channels, channels, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(),
            )  # fmt: skip
            seen = channels * quarter
        self.judge = nn.Sequential(
            nn.Linear(seen + caption, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1)
        )

    def forward(self, coarse: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """Images ``(n, 3, side, side)``; `coarse` ``(n, 3, side, side)`` is ignored at the lowest
        level."""
        n = len(tokens)
        code = torch.cat(
            [torch.randn(n, NOISE, generator=generator), self.drawer_words(tokens)], dim=-1
        )
        if self.lowest:
            return self.draw(code).reshape(n, 3, self.side, self.side)
        grain = torch.randn(n, 1, self.side, self.side, generator=generator)
        told = self.spread(code)[:, :, None, None].expand(-1, -1, self.side, self.side)
        return coarse + self.draw(torch.cat([coarse, grain, told], dim=1))

    def score(self, images: Tensor, coarse: Tensor, tokens: Tensor) -> Tensor:
        """Logits ``(n,)`` that an image is real and of its caption."""
        seen = self.see(images if self.lowest else torch.cat([images, coarse], dim=1))
        return self.judge(torch.cat([seen, self.critic_words(tokens)], dim=-1)).squeeze(-1)

    @property
    def drawing_parameters(self) -> list[nn.Parameter]:
        """Parameters of the generator."""
        parts = [self.draw, self.drawer_words, *([] if self.lowest else [self.spread])]
        return [p for part in parts for p in part.parameters()]

    @property
    def judging_parameters(self) -> list[nn.Parameter]:
        """Parameters of the discriminator."""
        return [p for part in (self.see, self.judge, self.critic_words) for p in part.parameters()]


class LaplacianGAN(nn.Module):
    """The pyramid: `losses` for training, `sample` for drawing."""

    def __init__(self, words: int = 32, channels: int = 16, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.levels = nn.ModuleList(Level(side, words, channels) for side in SIDES)

    def _levels(self) -> list[Level]:
        return [cast(Level, level) for level in self.levels]

    def optimisers(self, rate: float) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """Adam for all generators and for all discriminators, β1 = ½."""
        drawing = [p for level in self._levels() for p in level.drawing_parameters]
        judging = [p for level in self._levels() for p in level.judging_parameters]
        return (
            torch.optim.Adam(drawing, rate, (0.5, 0.999)),
            torch.optim.Adam(judging, rate, (0.5, 0.999)),
        )

    def judging_loss(self, images: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the discriminators on real, drawn and wrongly captioned rows."""
        total = images.new_zeros(())
        other = tokens.roll(1, 0)
        for level, real, coarse in self._pyramid(images):
            with torch.no_grad():
                drawn = level(coarse, tokens, generator)
            total = total + functional.softplus(-level.score(real, coarse, tokens)).mean()
            for image, words in ((drawn, tokens), (real, other)):
                total = total + 0.5 * functional.softplus(level.score(image, coarse, words)).mean()
        return total

    def drawing_loss(self, images: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """−log D of the drawn images (the non-saturating loss), summed over the levels."""
        total = images.new_zeros(())
        for level, _, coarse in self._pyramid(images):
            drawn = level(coarse, tokens, generator)
            total = total + functional.softplus(-level.score(drawn, coarse, tokens)).mean()
        return total

    @torch.no_grad()
    def sample(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """Images ``(n, IMAGE)`` in [0, 1]: each level on top of the drawn one below."""
        image = torch.zeros(len(tokens), 3, 1, 1)
        for level in self._levels():
            coarse = functional.interpolate(image, size=level.side)
            image = level(coarse, tokens, generator)
        return as_rows(image.clamp(0.0, 1.0))

    def _pyramid(self, images: Tensor) -> list[tuple[Level, Tensor, Tensor]]:
        """Level, real image and up-sampled coarser image, lowest first."""
        whole = as_channels(images)
        sizes = [functional.avg_pool2d(whole, 28 // side) for side in SIDES]
        coarser = [torch.zeros_like(sizes[0]), *sizes[:-1]]
        return [
            (level, real, functional.interpolate(coarse, size=level.side))
            for level, real, coarse in zip(self._levels(), sizes, coarser, strict=True)
        ]
