"""Pictures of the captions experiment: samples, flipped words, attention over the words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaerl.densities.cvae import CVAE
from vaerl.experiments.captions.composer import ASPECTS_READ
from vaerl.experiments.captions.data import (
    COLOURS,
    HELD_OUT,
    TEMPLATES,
    Scenes,
    as_channels,
    caption,
)
from vaerl.experiments.captions.scores import Sampler, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EACH = 3  # captions of each kind in the picture of samples
SAMPLES = 2  # a caption and model


def draw_figures(
    out: Path,
    samplers: Mapping[str, Sampler],
    composer: CVAE | None,
    drawer: CVAE | None,
    scenes: Mapping[str, tuple[Scenes, Tensor]],
    seed: int,
) -> list[Path]:
    """Draw the pictures into out/figures; but for samples, each is of one of the two models."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"samples": _samples(samplers, scenes, seed)} if samplers else {}
    if composer is not None:
        drawn["flips"] = _flips(composer, seed)
        drawn["reading"] = _reading(composer, seed)
    if drawer is not None:
        drawn["attention"] = _attention(drawer, seed)
    for name, figure in drawn.items():
        figure.savefig(folder / f"captions-{name}.png", dpi=80)
    return [folder / f"captions-{name}.png" for name in drawn]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _show(axis: Axes, image: Tensor, title: str = "") -> None:
    """One image row, in colour on black."""
    axis.imshow(
        as_channels(image).permute(1, 2, 0).clamp(0.0, 1.0).numpy(), interpolation="nearest"
    )
    axis.set_xticks([])
    axis.set_yticks([])
    if title:
        axis.set_title(title, fontsize=7)


def _samples(
    samplers: Mapping[str, Sampler], scenes: Mapping[str, tuple[Scenes, Tensor]], seed: int
) -> Figure:
    """A row a caption: a real image, then samples of every model."""
    some = {kind: pair[0].rows(slice(EACH)) for kind, pair in scenes.items()}
    rows = [(kind, n) for kind in HELD_OUT for n in range(len(some[kind]))]
    figure = _figure(1.1 * (3.2 + SAMPLES * len(samplers)), 1.15 * len(rows))
    grid = figure.subplots(
        len(rows),
        2 + SAMPLES * len(samplers),
        width_ratios=[2.4, 1.0, *[1.0] * (SAMPLES * len(samplers))],
        squeeze=False,
    )
    for number, (line, (kind, n)) in enumerate(zip(grid, rows, strict=True)):
        words = some[kind].captions[n].split()
        half = len(words) // 2
        text = f"{kind}:\n{' '.join(words[:half])}\n{' '.join(words[half:])}"
        line[0].text(0.0, 0.5, text, fontsize=7, va="center")
        line[0].axis("off")
        _show(line[1], scenes[kind][1][n], "" if number else "real")
        column = 2
        for name, sample in samplers.items():
            for again in range(SAMPLES):
                generator = torch.Generator().manual_seed(seed + again)
                image = sample(some[kind].tokens[n : n + 1], generator)[0]
                _show(
                    line[column], image, "" if number or again else name.replace(" CVAE", "\nCVAE")
                )
                column += 1
    return figure


def _flips(model: CVAE, seed: int) -> Figure:
    """One word changed, the noise kept: colours in the first row, places in the second, then the
    digit."""
    base = (4, 3, 0)  # template, digit, colour: "the red digit three is at the top left …"
    rows: list[list[tuple[int, int, int]]] = [
        [(base[0], base[1], colour) for colour in range(len(COLOURS))],
        [(template, base[1], base[2]) for template in range(4, TEMPLATES)],
        [(base[0], digit, base[2]) for digit in (2, 5, 7, 8)],
    ]
    figure = _figure(7.0, 5.6)
    for line, cases in zip(figure.subplots(len(rows), 4), rows, strict=True):
        scenes = Scenes(
            torch.tensor([case[0] for case in cases]),
            torch.tensor([[case[1], 0] for case in cases]),
            torch.tensor([[case[2], 0] for case in cases]),
        )
        for axis, case, image in zip(line, cases, _same_noise(model, scenes, seed), strict=True):
            words = caption(case[0], case[1:], (0, 0)).split()
            alone = Scenes(*(torch.tensor(v) for v in ([case[0]], [[case[1], 0]], [[case[2], 0]])))
            unseen = "\n(never seen)" if any(map(bool, alone.held_out())) else ""
            _show(axis, image, f"{' '.join(words[:5])}\n{' '.join(words[5:])}{unseen}")
    return figure


@torch.no_grad()
def _same_noise(model: CVAE, scenes: Scenes, seed: int) -> Tensor:
    """p(x | z, caption) of the paths from the same noise under every caption."""
    p = model.chain.generate(scenes.tokens)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, model.latent_dims[0], generator=generator)
    noise = noise.expand(len(scenes), -1).contiguous()
    path = model.chain.place(p, noise[:, 0], (noise,))
    return model.chain.decode(p, path).moments()[0]


@torch.no_grad()
def _reading(composer: CVAE, seed: int) -> Figure:
    """A sample beside the words that place, colour and shape of each thing are read from."""
    some = _told()
    reading: Any = composer.chain.generative_context(some.tokens)
    images = composer(some.tokens).sample_mean(generator=torch.Generator().manual_seed(seed))
    figure = _figure(3.4 * len(some), 5.2)
    parts: Any = figure.subfigures(1, len(some), squeeze=False)[0]
    for n, part in enumerate(parts):
        words = words_of(some.tokens[n])
        image, axis = part.subplots(2, 1, height_ratios=[1.0, 2.2])
        _show(image, images[n])
        weights = reading.attention[n, :, :, : len(words)].flatten(0, 1)
        things = range(1, reading.attention.shape[1] + 1)
        names = [f"{aspect} {thing}" for thing in things for aspect in ASPECTS_READ]
        axis.imshow(weights.T.numpy(), aspect="auto", cmap="magma", vmin=0.0, vmax=1.0)
        axis.set_yticks(range(len(words)), words, fontsize=7)
        axis.set_xticks(range(len(names)), names, fontsize=7, rotation=45, ha="right")
    return figure


def _told() -> Scenes:
    """Two scenes of two things, and one of one."""
    return Scenes(
        torch.tensor([0, 3, 5]),
        torch.tensor([[2, 5], [8, 3], [9, 0]]),
        torch.tensor([[0, 2], [3, 1], [0, 0]]),
    )


@torch.no_grad()
def _attention(drawer: CVAE, seed: int) -> Figure:
    """Weights α of every step over the words, beside the canvas after the step."""
    some = _told()
    reading = drawer.chain.generative_context(some.tokens)
    noise = torch.randn(
        len(some), drawer.latent_dims[0], generator=torch.Generator().manual_seed(seed)
    )
    drawing = reading.along(reading.fresh(noise))
    steps = drawing.attention.shape[1]
    figure = _figure(1.0 * steps + 1.0, 3.4 * len(some))
    parts: Any = figure.subfigures(len(some), 1, squeeze=False)[:, 0]
    for n, part in enumerate(parts):
        words = words_of(some.tokens[n])
        grid = part.add_gridspec(2, steps, height_ratios=[1.0, 1.9])
        for t in range(steps):
            image = torch.sigmoid(drawing.canvases[t + 1][n])
            _show(part.add_subplot(grid[0, t]), image, f"step {t + 1}")
        axis = part.add_subplot(grid[1, :])
        axis.imshow(
            drawing.attention[n, :, : len(words)].T.numpy(), aspect="auto", cmap="magma", vmin=0.0
        )
        axis.set_yticks(range(len(words)), words, fontsize=7)
        axis.set_xticks([])
    return figure
