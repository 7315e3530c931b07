"""The drawing chain obeys the laws of the core, and captions, images and facts agree."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.experiments.caption_scenes import generator, some
from vaerl.densities.normal import DiagonalNormal
from vaerl.experiments.captions.chain import Reading, Sizes, Window, build_drawer
from vaerl.experiments.captions.data import (
    COLOURS,
    HELD_OUT,
    IMAGE,
    LENGTH,
    PLACES,
    SIDE,
    Scenes,
    as_channels,
    as_rows,
    draw_scenes,
    flip_scenes,
    load_glyphs,
    paint,
)
from vaerl.experiments.captions.experiment import run
from vaerl.experiments.captions.gan import LaplacianGAN
from vaerl.experiments.captions.judge import Judge
from vaerl.experiments.captions.rivals import RIVALS, build_rival
from vaerl.experiments.captions.scores import caption_choice, lower_bounds
from vaerl.experiments.captions.training import make_cell, make_trainer
from vaerl.lab.stats import interval

TINY = Sizes(steps=3, latent=2, state=6, words=3, alignment=3, pen=3, eye=3)


def drawer(**objective: Any) -> Any:
    density = build_drawer(TINY, torch.full((IMAGE,), 0.3), 0, **objective).double()
    with torch.no_grad():  # far from the start, so that nothing is near zero
        for number, parameter in enumerate(density.parameters()):
            noise = torch.randn(parameter.shape, generator=generator(number), dtype=torch.float64)
            parameter.add_(0.2 * noise)
    return density


# -- captions and images ---------------------------------------------------------------------------


def test_images_show_what_their_captions_say() -> None:
    """Ink of the caption's colour, and of no other, lies in the half or corner that it names."""
    scenes = draw_scenes(200, generator(), None)
    images = as_channels(paint(scenes, load_glyphs("drawn", "train"), generator()))
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    for row in range(len(scenes)):
        words = scenes.captions[row]
        wanted = torch.zeros(3)
        for thing in range(2):
            place = int(scenes.places[row, thing])
            if place < 0:
                continue
            colour = colours[scenes.colours[row, thing]]
            wanted = torch.maximum(wanted, colour)
            assert list(COLOURS)[scenes.colours[row, thing]] in words
            name = PLACES[place]
            down = (
                slice(0, 15) if "top" in name else slice(13, 28) if "bottom" in name else slice(28)
            )
            right = (
                slice(0, 15) if "left" in name else slice(13, 28) if "right" in name else slice(28)
            )
            part = images[row][:, down, right].flatten(1).sum(-1)
            assert (part[colour > 0] > 5).all(), words
        assert ((images[row].flatten(1).sum(-1) > 0).float() == wanted).all(), words


def test_two_captions_of_one_image_have_the_same_facts() -> None:
    """A left of B and B right of A say the same; other pairs do not."""
    same = Scenes(
        torch.tensor([0, 1, 0]), torch.tensor([[3, 5], [5, 3], [5, 3]]),
        torch.tensor([[0, 2], [2, 0], [2, 0]]),
    )  # fmt: skip
    assert same.facts[0].tolist() == same.facts[1].tolist() != same.facts[2].tolist()
    assert same.captions[0] == "the red digit three is on the left of the blue digit five"


@pytest.mark.parametrize(("aspect", "columns"), [("place", [0]), ("colour", [2]), ("digit", [1])])
def test_a_flip_changes_one_fact_among_combinations_of_training(
    aspect: str, columns: list[int]
) -> None:
    """The other facts and the template of one digit stay."""
    before, after = flip_scenes(200, aspect, torch.Generator().manual_seed(0))
    assert len(before) == len(after) == 200
    changed = before.facts != after.facts
    assert changed[:, columns].all() and int(changed.sum()) == 200
    assert bool((before.facts[:, 3] == 10).all())
    for scenes in (before, after):
        assert not any(bool(out.any()) for out in scenes.held_out())


def test_training_never_shows_what_is_held_out() -> None:
    """By image, not by words: a held-out digit at the right is held out in both phrasings."""
    assert not torch.stack(draw_scenes(3000, generator()).held_out()).any()
    place, colour = draw_scenes(300, generator(), HELD_OUT[1]).held_out()
    assert place.all() and not colour.any()
    place, colour = draw_scenes(300, generator(), HELD_OUT[2]).held_out()
    assert colour.all() and not place.any()
    left_of, right_of = (
        Scenes(torch.tensor([t]), torch.tensor([d]), torch.tensor([[0, 0]]))
        for t, d in ((0, [8, 5]), (1, [5, 8]))
    )
    assert left_of.held_out()[0].tolist() == right_of.held_out()[0].tolist() == [False]
    banned = Scenes(torch.tensor([0, 1]), torch.tensor([[3, 8], [8, 3]]), torch.zeros(2, 2).long())
    assert banned.held_out()[0].all(), "three is held out at the left"


def test_rows_and_channels_are_inverse() -> None:
    rows = torch.rand(2, IMAGE)
    assert (as_rows(as_channels(rows)) == rows).all()
    assert as_channels(rows).shape == (2, 3, SIDE, SIDE)


# -- the chain -------------------------------------------------------------------------------------


def test_the_path_law_is_the_product_of_its_steps() -> None:
    """log p(z) and log q(z | x) summed by hand over the steps, and log w = log p(x, z) − log q."""
    density = drawer(objective="elbo", encoder_gradient="total")
    tokens, images = some(2)
    chain = density.chain
    p, q = chain.generate(tokens), chain.recognise(tokens)
    path, laws = chain.infer(q, images, (3,), generator())
    assert path[0].shape == (3, 2, TINY.steps * TINY.latent)
    drawing = chain.generative_context(tokens).along(path[0], images)
    z = path[0].reshape(6, TINY.steps, TINY.latent)
    for law, found in (
        (drawing.prior, chain.log_prior_layers(p, path)[0]),
        (drawing.posterior, chain.log_q_layers(q, laws[0], path)[0]),
    ):
        mean = law.mean.reshape(6, TINY.steps, TINY.latent)
        log_sigma = law.log_sigma.reshape(6, TINY.steps, TINY.latent)
        steps = [
            DiagonalNormal(mean[:, t], log_sigma[:, t]).log_prob(z[:, t]) for t in range(TINY.steps)
        ]
        torch.testing.assert_close(found.reshape(6), torch.stack(steps).sum(0))
    logits = drawing.canvases[-1]
    pixels = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits, images.expand(3, 2, IMAGE).reshape(6, IMAGE), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(chain.decode(p, path).log_prob(images).reshape(6), pixels)


def test_later_steps_depend_on_earlier_ones_and_on_the_words() -> None:
    """Prior and posterior of step t move with z_<t alone, never with z_≥t."""
    density = drawer(objective="elbo", encoder_gradient="total")
    tokens, images = some(1)
    z = torch.randn(1, 6, dtype=torch.float64, generator=generator()).requires_grad_()
    drawing = density.chain.generative_context(tokens).along(z, images)
    for law in (drawing.prior, drawing.posterior):
        for t in range(TINY.steps):
            (slope,) = torch.autograd.grad(law.mean[:, 2 * t].sum(), z, retain_graph=True)
            moved = slope[0].reshape(TINY.steps, TINY.latent).abs().amax(-1) > 0
            assert moved.tolist() == [s < t for s in range(TINY.steps)], (t, slope)
    other = density.chain.generative_context(tokens.flip(0) * 0 + 1).along(z, images)
    assert (other.canvases[-1] - drawing.canvases[-1]).abs().max() > 1e-3


def test_a_kept_drawing_is_that_of_its_path_and_image_only() -> None:
    """Asking along the same path reuses the pass; another path, image or gradient mode does not."""
    density = drawer(objective="elbo", encoder_gradient="total")
    tokens, images = some(2)
    reading: Reading = density.chain.generative_context(tokens)
    z = reading.fresh(torch.randn(2, 6, dtype=torch.float64, generator=generator()), images)
    kept = reading.along(z, images)
    assert reading.along(z) is kept
    with torch.no_grad():
        assert reading.along(z) is not kept
    again = reading.along(z.clone(), images)
    assert again is not kept
    torch.testing.assert_close(again.canvases[-1], kept.canvases[-1])
    assert reading.along(z, images.roll(1, 0)) is not kept


@pytest.mark.parametrize("name", ["dreg", "stl", "wake"])
def test_the_surrogate_is_right_although_p_and_q_share_parameters(name: str) -> None:
    """With draws fixed, the gradient is Σ ŵ ∇ log p(x, z) at fixed z, plus the coefficient times
    ∂ log w/∂z through the path, log q at fixed parameters: spelled out with two graphs."""
    k = 3
    density = drawer(objective="iwae-k", k=k, encoder_gradient=name)
    tokens, images = some(2)
    loss, _ = density.loss(tokens, images, diagnostics=False, generator=generator(5))
    parameters = [*density.parameters()]
    found = torch.autograd.grad(loss.mean(), parameters)

    chain = density.chain
    p, q = chain.generate(tokens), chain.recognise(tokens)
    path, _ = chain.infer(q, images, (k,), generator(5))
    z = path[0].detach().requires_grad_()
    fixed = chain.recognise(tokens)[0].fixed()
    drawn = fixed.along(z, images)
    log_q = drawn.posterior.log_prob(z.reshape(-1, z.shape[-1])).reshape(k, 2)
    log_p = chain.decode(p, (z,)).log_prob(images) + p.prior.log_prob(z)
    log_w = log_p - log_q
    weight = torch.softmax(log_w.detach(), 0)
    (at_z,) = torch.autograd.grad((weight * log_w).sum(), z, retain_graph=True)
    factor = {"dreg": weight, "stl": torch.ones_like(weight), "wake": 1.0 - weight}[name]
    direct = torch.autograd.grad((weight * log_p).sum(), parameters, allow_unused=True)
    through = torch.autograd.grad(
        path[0], parameters, at_z * factor.unsqueeze(-1), allow_unused=True
    )
    for got, a, b in zip(found, direct, through, strict=True):
        wanted = sum(g for g in (a, b) if g is not None)
        torch.testing.assert_close(got, -wanted / 2, rtol=1e-6, atol=1e-9)


def test_dreg_has_the_mean_of_the_total_derivative() -> None:
    """Over many draws at k = 4, projected on the shared and on q's own parameters."""
    tokens, images = some(1)
    means = {}
    for name in ("dreg", "total"):
        density = drawer(objective="iwae-k", k=4, encoder_gradient=name)
        net = density.chain.generative_context.net
        groups = [net.posterior.weight, net.draw.weight_ih]
        draws = []
        rows, batch = 100, (tokens.expand(100, LENGTH), images.expand(100, IMAGE))
        for seed in range(10):
            loss, _ = density.loss(*batch, diagnostics=False, generator=generator(seed))
            grads = torch.autograd.grad(loss.sum() / rows, groups)
            draws.append(torch.stack([g.flatten()[:8].sum() for g in grads]))
        stacked = torch.stack(draws)
        means[name] = (stacked.mean(0), stacked.std(0) / math.sqrt(len(draws)))
    apart = (means["dreg"][0] - means["total"][0]).abs()
    error = (means["dreg"][1].square() + means["total"][1].square()).sqrt()
    assert (apart < 4.0 * error).all(), means


def test_bounds_rise_with_k_and_upper_bounds_lie_above() -> None:
    """On the model's own images: L_1 ≤ L_8 ≤ U_8 ≤ U_0, in the mean."""
    density = drawer(objective="elbo", encoder_gradient="total")
    tokens = some(60)[0]
    with torch.no_grad():
        value = density(tokens)
        x, latents = value.rsample_with_latents((), generator())
        few, many = (value.log_prob_bounds(x, k, latents, generator(1)) for k in (1, 8))
        nothing = value.log_prob_bounds(x, 0, latents).upper
    means = [b.mean().item() for b in (few.lower, many.lower, many.upper, nothing)]
    assert means == sorted(means) and means[0] < means[3] - 0.1, means


def test_windows_read_what_they_write() -> None:
    """Filters have their largest value 1 at their centre; a grid moved right writes further right,
    and reading an even image gives γ times its grey."""
    window = Window(2, 5, cover=0.4)
    with torch.no_grad():
        window.place.weight.zero_()
        window.place.weight[1, 0] = 0.5  # the first number of the state moves the grid to the right
    states = torch.tensor([[0.0, 0.0], [0.8, 0.0]])
    filters = window.filters(states)
    torch.testing.assert_close(filters[0].amax(-1), torch.ones(2, 5), rtol=0.0, atol=0.1)
    written = as_channels(window.write(torch.ones(2, 75), filters)).sum((1, 2))
    centre = (written * torch.arange(SIDE)).sum(-1) / written.sum(-1)
    assert centre[0].item() == pytest.approx(13.5, abs=0.1)
    assert centre[1].item() == pytest.approx(13.5 * 1.4, abs=0.3)
    even = window.read(torch.full((2, IMAGE), 0.7), filters)
    torch.testing.assert_close(even, torch.full((2, 75), 0.7), rtol=1e-4, atol=1e-4)


# -- beside it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RIVALS)
def test_every_parameter_of_a_rival_learns_and_the_caption_matters(kind: str) -> None:
    density = build_rival(kind, torch.full((IMAGE,), 0.2), objective="elbo", encoder_gradient="stl")
    tokens, images = (part.float() for part in some(6))
    loss, _ = density.loss(tokens, images, diagnostics=False, generator=generator())
    loss.mean().backward()
    still = [n for n, p in density.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    right, wrong = (
        lower_bounds(density, words, images, 2, generator())
        for words in (tokens, tokens.roll(1, 0))
    )
    assert (right - wrong).abs().max() > 1e-4
    assert 0.0 <= caption_choice(density, draw_scenes(20, generator()), images, 3, 1, 0) <= 1.0


def test_the_pyramid_adds_residuals_and_each_side_trains_alone() -> None:
    gan = LaplacianGAN(words=4, channels=4)
    tokens, images = (part.float() for part in some(4))
    drawing, judging = gan.optimisers(1e-3)
    for loss, own, other in (
        (gan.judging_loss(images, tokens, generator()), judging, drawing),
        (gan.drawing_loss(images, tokens, generator()), drawing, judging),
    ):
        for optimiser in (drawing, judging):
            optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for g in own.param_groups for p in g["params"])
        if own is judging:
            assert all(p.grad is None for g in other.param_groups for p in g["params"])
    with torch.no_grad():
        for level in list(gan.levels)[1:]:
            last: Any = level.get_submodule("draw.4")
            last.weight.zero_()
            last.bias.zero_()
    blocks = as_channels(gan.sample(tokens, generator())).reshape(4, 3, 7, 4, 7, 4)
    assert (blocks - blocks[:, :, :, :1, :, :1]).abs().max() < 1e-6


def test_the_judge_learns_place_and_colour() -> None:
    """A few updates on drawn digits and real images are told from wrong captions."""
    judge = Judge()
    glyphs = load_glyphs("drawn", "train")
    optimiser = torch.optim.Adam(judge.parameters(), 3e-3)
    for seed in range(120):
        scenes = draw_scenes(64, generator(seed), None)
        optimiser.zero_grad()
        judge.loss(paint(scenes, glyphs, generator(seed)), scenes).backward()
        optimiser.step()
    scenes = draw_scenes(200, generator(999), None)
    images = paint(scenes, load_glyphs("drawn", "test"), generator(1))
    judge.eval()
    right = judge.agreement(images, scenes)
    wrong = judge.agreement(images.roll(1, 0), scenes)
    assert right["place"] > 0.9 and right["colour"] > 0.8, right
    assert wrong["place"] < 0.4 and wrong["all"] < 0.05, wrong


# -- training and the experiment -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["composer", "connected", "judge"])
def test_an_interrupted_training_ends_where_a_whole_one_does(name: str, tmp_path: Path) -> None:
    """Stopped after two of four updates: the same parameters; the judge's dropout too."""
    glyphs = load_glyphs("drawn", "train")
    whole, first, again = (make_trainer(make_cell(name, "debug", 0), glyphs) for _ in range(3))
    whole.run(tmp_path / "whole")
    first.module.train()
    first.round()
    first.round()
    first.save(tmp_path / "parts")
    torch.rand(1)
    again.run(tmp_path / "parts")
    for a, b in zip(whole.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_debug_preset_runs_whole_and_resumes(tmp_path: Path) -> None:
    """A table with its command and four pictures; trained models are not trained again."""
    run(tmp_path, preset="debug", models=["laplacian-gan"])
    run(tmp_path, preset="debug", models=["composer-kl", "drawing"])
    run(tmp_path, preset="debug", models=["composer"])  # the table is of all that is finished
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["command"] == (
        "vaerl experiment captions --preset debug --seeds 0 "
        "--models composer,composer-kl,drawing,laplacian-gan"
    )
    assert len(record["rows"]) == 5
    assert all(len(row) == len(record["columns"]) for row in record["rows"])
    assert len(list((tmp_path / "figures").glob("*.png"))) == 4
    parts = {name: cell["composition"] for name, cell in record["settings"].items()}
    assert parts["drawing-s0"] is None and parts["composer-s0"]["kl"] == 4.0
    assert parts["composer-kl-s0"] == {**parts["composer-s0"], "kl": 1.0}
    assert [*record["data"]["drawing-s0"]["flips"]] == ["colour", "place", "digit"]
    mass = record["data"]["drawing-s0"]["attention"]
    sums = [sum(kind[t] for kind in mass.values()) for t in range(3)]
    assert sums == pytest.approx([1.0] * 3, abs=1e-5)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    run(tmp_path, preset="debug", models=["drawing", "laplacian-gan"])
    assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    run(tmp_path, preset="debug", models=["drawing"], seeds=[1])
    record = json.loads((tmp_path / "results.json").read_text())
    assert [row[:2] for row in record["rows"]] == [
        ["composing CVAE", "1"], ["– weight 1 of the KL throughout", "1"],
        ["chain of CVAEs with attention", "2"], ["Laplacian-pyramid GAN", "1"],
        ["real images", "2"],
    ]  # fmt: skip
    assert record["command"].splitlines() == [
        "vaerl experiment captions --preset debug --seeds 0 "
        "--models composer,composer-kl,laplacian-gan",
        "vaerl experiment captions --preset debug --seeds 0,1 --models drawing",
    ]
    real = [record["data"][f"judge-s{seed}"]["agreement"]["new place"]["all"] for seed in (0, 1)]
    assert record["rows"][-1][9] == interval(real, 2)
    with pytest.raises(ValueError, match="did you mean 'drawing'"):
        run(tmp_path / "never", preset="debug", models=["drawin"])
