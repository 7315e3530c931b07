"""Which character a drawing shows: a small convolutional network, the judge of handwriting."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 32
BATCH = 128


class Recogniser(nn.Module):
    """Logits (N, characters) of drawings (N, 28, 28) in [0, 1]; a call reads a single drawing.

    Three blocks of convolution, batch normalisation and pooling, then one linear layer.

    >>> Recogniser(5).read(np.zeros((2, 28, 28))).shape
    (2,)
    """

    def __init__(self, characters: int) -> None:
        super().__init__()
        sizes = (1, WIDTH, 2 * WIDTH, 4 * WIDTH)
        blocks = [
            layer
            for inner, outer in pairwise(sizes)
            for layer in (
                nn.Conv2d(inner, outer, 3, padding=1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
        ]
        self.characters = characters
        self.net = nn.Sequential(
            *blocks, nn.Flatten(), nn.Dropout(0.3), nn.Linear(sizes[-1] * 9, characters)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images[:, None])

    @torch.no_grad()
    def read(self, images: np.ndarray) -> np.ndarray:
        """Characters (N,) that drawings (N, 28, 28) show; the network must be in eval mode."""
        self.eval()
        parts = torch.as_tensor(np.asarray(images), dtype=torch.float32).split(512)
        return torch.cat([self(part).argmax(dim=1) for part in parts]).numpy()

    def judge(self, image: np.ndarray) -> int:
        """The character of one drawing (28, 28), as `HandwritingEnv` asks its judge."""
        return int(self.read(image[None])[0])

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors."""
        save_file(self.state_dict(), path)

    @classmethod
    def load(cls, path: str | Path) -> Recogniser:
        """Read what `save` wrote; no code is run."""
        weights = load_file(path)
        network = cls(len(weights["net.14.bias"]))
        network.load_state_dict(weights)
        return network.eval()


def train_recogniser(
    images: np.ndarray, characters: np.ndarray, *, epochs: int = 12, seed: int = 0
) -> Recogniser:
    """Fit by cross-entropy on drawings (N, 28, 28) turned, scaled, sheared and moved at random.

    The global generator of torch is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.as_tensor(np.asarray(images), dtype=torch.float32)
        y = torch.as_tensor(np.asarray(characters), dtype=torch.int64)
        network = Recogniser(int(y.max()) + 1)
        steps = epochs * -(-len(x) // BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(BATCH):
                logits = network(_distorted(x[rows]))
                loss = functional.cross_entropy(logits, y[rows], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def _distorted(images: Tensor) -> Tensor:
    """A random affine map of each image: entries ± .15 of the matrix, shift ± 2 pixels."""
    count = len(images)
    matrix = torch.eye(2) + 0.3 * (torch.rand(count, 2, 2) - 0.5)
    shift = (torch.rand(count, 2, 1) - 0.5) * (4 * 2 / images.shape[-1])
    grid = functional.affine_grid(
        torch.cat([matrix, shift], dim=2), [count, 1, *images.shape[1:]], align_corners=False
    )
    return functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
