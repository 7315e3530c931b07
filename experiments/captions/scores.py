"""Measurements of each model: bounds, choice of captions, content of samples, attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from vaerl.densities import ConditionalDensity
from vaerl.densities.cvae import CVAE
from vaerl.experiments.captions.chain import Reading
from vaerl.experiments.captions.composer import ASPECTS_READ
from vaerl.experiments.captions.data import (
    HELD_OUT,
    KINDS,
    PAIRS,
    VOCABULARY,
    WORD,
    Glyphs,
    Scenes,
    draw_scenes,
    flip_scenes,
    paint,
)
from vaerl.experiments.captions.judge import ASPECTS, Judge

ROWS = 1_000  # latent samples at once
CHOICES = 16  # captions among which the right one is to be found
FLIPPED = ("colour", "place", "digit")
SCENES_SEED = 104_729  # added to the seed: the scenes on which models are measured

Sampler = Callable[[Tensor, torch.Generator], Tensor]


def measured_scenes(glyphs: Glyphs, count: int, seed: int) -> dict[str, tuple[Scenes, Tensor]]:
    """Scenes and images of test digits by kind: seen, held-out place, held-out colour."""
    generator = torch.Generator().manual_seed(SCENES_SEED + seed)
    result = {}
    for kind in HELD_OUT:
        scenes = draw_scenes(count, generator, kind)
        result[kind] = (scenes, paint(scenes, glyphs, generator))
    return result


@torch.no_grad()
def lower_bounds(
    density: ConditionalDensity, tokens: Tensor, images: Tensor, k: int, generator: torch.Generator
) -> Tensor:
    """L_k of each image given its caption ``(n,)``, a few rows at a time."""
    size = max(1, ROWS // k)
    return torch.cat(
        [
            density(words).log_prob_bounds(x, k, generator=generator).lower
            for words, x in zip(tokens.split(size), images.split(size), strict=True)
        ]
    )


def caption_bounds(
    density: ConditionalDensity, scenes: Scenes, images: Tensor, k: int, seed: int
) -> dict[str, dict[str, float]]:
    """Mean L_k and its standard error, in nats, with the right, a wrong and an empty caption."""
    tokens = scenes.tokens
    readings = {"right": tokens, "shuffled": tokens.roll(1, 0), "empty": torch.zeros_like(tokens)}
    result = {}
    for name, words in readings.items():
        generator = torch.Generator().manual_seed(seed)
        found = lower_bounds(density, words, images, k, generator)
        result[name] = {
            "mean": found.mean().item(), "error": found.std().item() / len(found) ** 0.5,
        }  # fmt: skip
    return result


def caption_choice(
    density: ConditionalDensity, scenes: Scenes, images: Tensor, count: int, k: int, seed: int
) -> float:
    """Share of `count` images whose own caption has the largest L_k among `CHOICES`.

    The others are the captions of the images that follow.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = scenes.tokens
    order = (torch.arange(count).unsqueeze(-1) + torch.arange(CHOICES)) % len(tokens)
    flat = tokens[order].flatten(0, 1)
    rows = images[:count].repeat_interleave(CHOICES, 0)
    found = lower_bounds(density, flat, rows, k, generator).reshape(count, CHOICES)
    return (found.argmax(-1) == 0).float().mean().item()


def binary_sampler(sample: Sampler) -> Sampler:
    """The sampler with each pixel rounded to 0 or 1."""
    return lambda tokens, generator: (sample(tokens, generator) > 0.5).float()


def density_sampler(density: ConditionalDensity) -> Sampler:
    """Draws z ~ p(z | caption) and gives the likeliest image of p(x | z, caption)."""
    return binary_sampler(lambda tokens, noise: density(tokens).sample_mean(generator=noise))


def agreement(
    judge: Judge, sample: Sampler, scenes: Mapping[str, tuple[Scenes, Tensor]], seed: int
) -> dict[str, dict[str, float]]:
    """Caption accuracy of one sample a caption, by kind of scene and aspect."""
    result = {}
    for kind, (some, _) in scenes.items():
        generator = torch.Generator().manual_seed(seed)
        result[kind] = judge.agreement(sample(some.tokens, generator), some)
    return result


def flips(judge: Judge, sample: Sampler, count: int, seed: int) -> dict[str, dict[str, float]]:
    """One word of a caption changed and the noise kept, each aspect of a digit apart.

    "obeyed" is the share of images that then show the new one, "kept" the share whose other facts
    are those of the image before; both by the classifier, on captions of one digit. "shown" is the
    share of the images before that show what is asked for in this aspect.
    """
    result = {}
    for aspect in FLIPPED:
        generator = torch.Generator().manual_seed(SCENES_SEED + seed)
        before, after = flip_scenes(count, aspect, generator)
        found = [
            judge.read(sample(some.tokens, torch.Generator().manual_seed(seed)))
            for some in (before, after)
        ]
        columns = list(ASPECTS[aspect])
        others = [c for c in range(found[0].shape[1]) if c not in columns]
        first, new = (
            (seen == some.facts)[:, columns].all(-1).float().mean().item()
            for seen, some in zip(found, (before, after), strict=True)
        )
        same = (found[1] == found[0])[:, others].all(-1)
        result[aspect] = {"obeyed": new, "kept": same.float().mean().item(), "shown": first}
    return result


@torch.no_grad()
def attention_mass(density: CVAE, scenes: Scenes, seed: int) -> dict[str, list[float]]:
    """Mean attention at each step, by kind of word: place, colour, digit, any other word."""
    tokens = scenes.tokens
    reading = density.chain.generative_context(tokens)
    assert isinstance(reading, Reading), type(reading)
    p = density.chain.generate(tokens)
    z = density.chain.sample_prior(p, (), torch.Generator().manual_seed(seed))[0]
    weights = reading.along(z).attention
    mass: dict[str, Any] = {}
    for kind, words in KINDS.items():
        mass[kind] = (weights * _is_one_of(tokens, words).unsqueeze(1)).sum(-1).mean(0)
    mass["other"] = 1.0 - sum(mass.values())
    return {kind: value.tolist() for kind, value in mass.items()}


@torch.no_grad()
def reading_mass(density: CVAE, scenes: Scenes) -> dict[str, dict[str, float]]:
    """Mean attention of the composer's reads by aspect and kind of word, in captions of two things.

    In the others a thing is left over, and it does not matter what is read of it.
    """
    tokens = scenes.rows(scenes.template < len(PAIRS)).tokens
    reading: Any = density.chain.generative_context(tokens)
    mass: dict[str, dict[str, float]] = {}
    for place, aspect in enumerate(ASPECTS_READ):
        weights = reading.attention[..., place, :].mean(1)
        shares = {
            kind: float((weights * _is_one_of(tokens, words)).sum(-1).mean())
            for kind, words in KINDS.items()
        }
        mass[aspect] = {**shares, "other": 1.0 - sum(shares.values())}
    return mass


def _is_one_of(tokens: Tensor, words: Iterable[str]) -> Tensor:
    return torch.isin(tokens, torch.tensor([float(WORD[word]) for word in words]))


def words_of(tokens: Tensor) -> list[str]:
    """The words of one caption."""
    return [VOCABULARY[int(token)] for token in tokens if token]
