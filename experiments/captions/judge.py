"""A classifier of place, digit and colour, trained on real images of all combinations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.experiments.captions.data import COLOURS, LAYOUTS, Scenes, as_channels

CLASSES = (len(LAYOUTS), 10, len(COLOURS), 11, len(COLOURS) + 1)
"""Of the columns of `Scenes.facts`."""
ASPECTS = {"place": (0,), "colour": (2, 4), "digit": (1, 3), "all": (0, 1, 2, 3, 4)}


class Judge(nn.Module):
    """Two convolutions, one hidden layer, five softmaxes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Conv2d(3, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, 48, 3, 2, 1), nn.ReLU(),
                nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 49, 192), nn.ReLU(),
                nn.Linear(192, sum(CLASSES)),
            )  # fmt: skip

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits of the five facts for images ``(n, IMAGE)``."""
        return self.net(as_channels(images)).split(CLASSES, dim=-1)

    def loss(self, images: Tensor, scenes: Scenes) -> Tensor:
        """Cross-entropy summed over the facts, 0-d."""
        columns = scenes.facts.unbind(-1)
        parts = zip(self(images), columns, strict=True)
        return torch.stack([functional.cross_entropy(l, fact) for l, fact in parts]).sum()

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """The likeliest facts ``(n, 5)``, in the columns of `Scenes.facts`."""
        return torch.stack([logits.argmax(-1) for logits in self(images)], dim=-1)

    def agreement(self, images: Tensor, scenes: Scenes) -> dict[str, float]:
        """Share of images that show what the captions say, by aspect; "all" wants every one."""
        same = self.read(images) == scenes.facts
        return {name: same[:, list(c)].all(-1).float().mean().item() for name, c in ASPECTS.items()}
