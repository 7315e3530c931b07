"""Captions and images of drawn digits, for the tests of their models."""

from __future__ import annotations

import torch
from torch import Tensor

from vaerl.experiments.captions.data import draw_scenes, load_glyphs, paint


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    scenes = draw_scenes(count, generator(seed))
    images = paint(scenes, load_glyphs("drawn", "train"), generator(seed))
    return scenes.tokens.double(), images.double()
