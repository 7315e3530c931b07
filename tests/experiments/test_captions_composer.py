"""The composing CVAE paints what it reads, where it reads it, and learns what words mean."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.experiments.caption_scenes import generator, some
from vaerl.experiments.captions.composer import Composition, build_composer
from vaerl.experiments.captions.data import (
    HELD_OUT,
    LENGTH,
    SIDE,
    as_channels,
    as_rows,
    draw_scenes,
    load_glyphs,
    paint,
)
from vaerl.experiments.captions.scores import lower_bounds, reading_mass

SMALL = Composition(latent=3, vector=6, words=4, width=16, window=8)


def composer(**changes: Any) -> Any:
    """In double precision and evaluation mode, far from its start."""
    sizes = replace(SMALL, **changes)
    density = build_composer(sizes, 0, objective="elbo", encoder_gradient="total").double().eval()
    with torch.no_grad():
        for number, parameter in enumerate(density.parameters()):
            noise = torch.randn(parameter.shape, generator=generator(number), dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return density


def reading(density: Any, tokens: Tensor, **changes: Any) -> Any:
    return density.chain.generative_context(tokens)._replace(**changes)


def lit(density: Any, z: Tensor, read: Any) -> Tensor:
    """P(pixel is lit) as channels ``(B, 3, 28, 28)``."""
    return as_channels(torch.sigmoid(density.chain.generative[0](z, read).logits))


@torch.no_grad()
def test_a_thing_is_the_same_at_every_place() -> None:
    """The image at a centre some pixels on is the same image, so many pixels on; so is what is
    recognised there."""
    density, (tokens, images) = composer(), some(2)
    z = torch.randn(2, 6, generator=generator(), dtype=torch.float64)
    centre = torch.full((2, 2, 2), 13.3, dtype=torch.float64)
    moved = centre + torch.tensor([2.0, -3.0])
    here, there = (reading(density, tokens, centre=at) for at in (centre, moved))
    torch.testing.assert_close(
        lit(density, z, there), lit(density, z, here).roll((2, -3), (-2, -1)), rtol=0, atol=1e-9
    )
    inner = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.float64)
    inner[..., 8:20, 8:20] = as_channels(images)[..., 8:20, 8:20]
    seen = (
        density.chain.recognition[0](as_rows(shown), read).mean
        for shown, read in ((inner, here), (inner.roll((2, -3), (-2, -1)), there))
    )
    torch.testing.assert_close(*seen)


@torch.no_grad()
def test_things_are_painted_over_each_other_and_can_be_transparent() -> None:
    """P(dark) of both is the product of P(dark) of each; colours scale the channels."""
    density, (tokens, _) = composer(), some(2)
    z = torch.randn(3, 2, 6, generator=generator(), dtype=torch.float64)
    full = reading(density, tokens, centre=torch.full((2, 2, 2), 13.3, dtype=torch.float64))
    keeps = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    reads = [full._replace(opacity=full.opacity * keep) for keep in keeps]
    dark = [1.0 - torch.sigmoid(density.chain.generative[0](z, read).logits) for read in reads]
    torch.testing.assert_close(dark[0] * dark[3], dark[1] * dark[2])
    assert (dark[3] - torch.sigmoid(-density.chain.generative[0].background)).abs().max() < 1e-12
    red = full._replace(colour=torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(2, 2, 3))
    other = lit(density, z[0], red)[:, 1:]
    assert (other - other.amin()).abs().max() < 1e-12, "only red is lit"


@torch.no_grad()
def test_a_word_means_the_same_in_every_sentence() -> None:
    """A read is a mean of the words' own vectors, by weights that depend on the sentence."""
    density, (tokens, _) = composer(), some(4)
    read = density.chain.generative_context(tokens)
    vectors = density.chain.generative_context.encoder.embed.weight[tokens.long()]
    torch.testing.assert_close(read.shape, read.attention[..., 2, :] @ vectors)
    torch.testing.assert_close(read.attention.sum(-1), torch.ones(4, 2, 3, dtype=torch.float64))
    assert not density.chain.generative_context(0.0 * tokens).attention.any()
    assert not read.attention[(tokens == 0)[:, None, None].expand_as(read.attention)].any()

    def order_matters(own_vectors: bool) -> bool:
        """Of two words, where attention is uniform."""
        chain = composer(own_vectors=own_vectors, sharpness=0.0).chain
        swapped = tokens[:, [1, 0, *range(2, LENGTH)]]
        one, other = (chain.generative_context(words).shape for words in (tokens, swapped))
        return float((one - other).abs().max()) > 1e-9

    assert order_matters(own_vectors=False) and not order_matters(own_vectors=True)


@torch.no_grad()
def test_attention_is_even_at_first_and_the_kl_weighs_more() -> None:
    """β grows from 0, and what it was in training does not count afterwards."""
    density, (tokens, _) = composer(), some(3)
    chain = density.chain
    trained = chain.generative_context(tokens).attention
    weights = [chain.prepare(share) for share in (0.0, 0.25, 0.5, 1.0)]
    assert weights == [4.0, 2.5, 1.0, 1.0]
    assert chain.prepare(0.1) == pytest.approx(3.4)
    assert (chain.generative_context(tokens).attention == trained).all()
    words = (tokens != 0).double()
    even = words / words.sum(-1, keepdim=True)
    torch.testing.assert_close(
        chain.train().generative_context(tokens).attention, even[:, None, None].expand_as(trained)
    )
    chain.prepare(0.7)
    torch.testing.assert_close(chain.generative_context(tokens).attention, trained)
    sizes = Composition(sharpen=0.0, kl=1.0)
    assert [sizes.schedule(share) for share in (0.0, 0.2)] == [(0.0, 1.0), (3.0, 1.0)]
    assert replace(sizes, uniform=0.0).schedule(0.0) == (3.0, 1.0)


@torch.no_grad()
def test_a_black_background_is_no_trouble() -> None:
    """Where float32 rounds its darkness to one, and where things cover a pixel."""
    density = build_composer(SMALL, objective="elbo", encoder_gradient="total")
    tokens, images = (part.float() for part in some(4))
    painter: Any = density.chain.generative[0]
    painter.background.fill_(-40.0)
    painter.ink[-1].bias.fill_(20.0)
    assert torch.isfinite(
        density(tokens).log_prob_bounds(images, 4, generator=generator()).lower
    ).all()
    dark = density.chain.decode(density.chain.generate(tokens), (torch.zeros(4, 6),)).logits
    assert dark.min() == pytest.approx(-40.0, abs=1e-3) and dark.max() > 0.0


@torch.no_grad()
def test_what_is_read_is_counted_by_kind_of_word() -> None:
    """Of both things, in captions of two."""
    scenes = draw_scenes(30, generator())
    tokens = scenes.tokens

    class Chain:
        def generative_context(self, words: Tensor) -> Any:
            weights = torch.zeros(len(words), 2, 3, LENGTH)
            weights[:, 0, :, 1] = weights[:, 1, :, 10] = 1.0  # colours of both digits
            weights[:, 1, 2] = 0.0
            weights[:, 1, 2, 12] = 1.0  # the second digit
            return SimpleNamespace(attention=weights)

    mass = reading_mass(SimpleNamespace(chain=Chain()), scenes)  # type: ignore[arg-type]
    assert mass["place"] == mass["colour"] == {"place": 0, "colour": 1, "digit": 0, "other": 0}
    assert mass["shape"] == {"place": 0, "colour": 0.5, "digit": 0.5, "other": 0}
    assert len(tokens) > len(scenes.rows(scenes.template < 4)) > 0


def test_every_parameter_of_the_composer_learns() -> None:
    """Also those that only codes or only words reach."""
    density = composer()
    loss, _ = density.loss(*some(6), diagnostics=False, generator=generator())
    loss.mean().backward()
    assert [n for n, p in density.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_composer_learns_what_captions_say() -> None:
    """After some updates on drawn digits the right caption has the better bound, also for
    combinations that training never shows."""
    density = build_composer(Composition(width=32), objective="elbo", encoder_gradient="total")
    optimiser = torch.optim.Adam(density.parameters(), 1e-2)
    glyphs = load_glyphs("drawn", "train")
    for seed in range(150):
        scenes = draw_scenes(32, generator(seed))
        images = paint(scenes, glyphs, generator(seed))
        weight = density.chain.prepare(seed / 150)
        loss, _ = density.loss(
            scenes.tokens, images, diagnostics=False, kl_weight=weight, generator=generator(seed)
        )
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    for kind in HELD_OUT:
        scenes = draw_scenes(100, generator(999), kind)
        images = paint(scenes, load_glyphs("drawn", "test"), generator(1))
        right, wrong = (
            lower_bounds(density.eval(), words, images, 4, generator())
            for words in (scenes.tokens, scenes.tokens.roll(1, 0))
        )
        assert (right - wrong).mean() > 30.0, (kind, right.mean(), wrong.mean())
