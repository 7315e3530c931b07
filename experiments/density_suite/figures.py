"""Pictures of the density suite: samples of the truth and of every model, side by side.

One PNG a target. 1-D: histograms under the true density. 2-D: scatters. Rows are three contexts.
6-D: rows are three pairs of coordinates, colours the three contexts. Arms: some postures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from vaerl.experiments.density_suite.fit import Fit, load_model
from vaerl.experiments.density_suite.laws import Sampler, Target
from vaerl.lab.cells import Result
from vaerl.lab.experiment import Results

PAIRS = ((0, 1), (2, 3), (4, 5))
COLOURS = ("tab:blue", "tab:orange", "tab:green")
OUTLINES = 40  # in a panel


def draw_figures(results: Results, out: Path, samples: int = 1_500) -> list[Path]:
    """Draw one picture a target from the saved parameters of the first seed; give the paths."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.cell["seed"] == results[0].cell["seed"]:
            groups.setdefault(Fit.from_data(result.cell).law_name, []).append(result)
    return [_draw_target(group, folder / f"{name}.png", samples) for name, group in groups.items()]


def _draw_target(group: Results, path: Path, samples: int) -> Path:
    """One row of panels for each context (or pair of coordinates), one column for each sampler."""
    first = Fit.from_data(group[0].cell)
    target = first.law()
    generator = torch.Generator().manual_seed(0)
    columns: list[tuple[str, Sampler]] = [("truth", lambda c: target.sample(c, generator))]
    for result in group:
        title = f"{result.cell['model']}\ngap {result.data['gap']:.3f}"
        columns.append((title, _model_sampler(result)))
    contexts = target.shown()
    lines = target.outlines(torch.zeros(1, target.event_dim)) is not None
    samples = OUTLINES if lines else samples
    drawn = [[sampler(c.expand(samples, -1)) for c in contexts] for _, sampler in columns]
    figure = Figure(figsize=(1.8 * len(columns) + 0.6, 6.4))
    figure.subplots_adjust(0.6 / figure.get_figwidth(), 0.04, 0.99, 0.88, 0.15, 0.15)
    axes = figure.subplots(3, len(columns), squeeze=False, sharex="row", sharey="row")
    for column, (title, _) in enumerate(columns):
        axes[0, column].set_title(title, fontsize=9)
        for row in range(3):
            _draw_panel(axes[row, column], target, drawn[column], drawn[0], row)
            if column == 0:
                label = "c = " + ", ".join(f"{value:.1f}" for value in contexts[row].unique())
                if target.event_dim > 2 and not lines:
                    label = f"x{PAIRS[row][0] + 1}, x{PAIRS[row][1] + 1}"
                axes[row, 0].set_ylabel(label)
    for row in range(3):
        _frame(axes[row, 0], target, drawn[0], row)
    figure.suptitle(f"{first.law_name}: {target.summary}", fontsize=10)
    figure.savefig(path, dpi=80)
    return path


def _model_sampler(result: Result) -> Sampler:
    """Sampler of a trained model, seeded and without touching the global generator."""
    model = load_model(result)

    def sampler(contexts: Tensor) -> Tensor:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(result.cell["seed"])
            return model.sample(contexts.float())

    return sampler


def _draw_panel(
    axis: Axes, target: Target, drawn: Sequence[Tensor], truth: Sequence[Tensor], row: int
) -> None:
    """One panel: histogram and true density (1-D), scatter (2-D), projected scatters (6-D)."""
    axis.tick_params(labelsize=6, length=2)
    if target.event_dim == 1:
        grid = torch.linspace(*_range(truth[row][:, 0]), 400, dtype=torch.float64)
        density = target.log_prob(target.shown()[row].expand(400, -1), grid.unsqueeze(-1)).exp()
        axis.hist(drawn[row][:, 0].numpy(), bins=80, density=True, histtype="stepfilled", alpha=0.6)
        axis.plot(grid.numpy(), density.numpy(), color="black", linewidth=0.8)
        return
    dots: dict[str, Any] = {"s": 1.0, "alpha": 0.4, "linewidths": 0}
    outlines = target.outlines(drawn[row])
    if outlines is not None:
        axis.add_collection(
            LineCollection([*outlines], color=COLOURS[0], alpha=0.3, linewidths=0.7)
        )
        return
    if target.event_dim == 2:
        axis.scatter(*drawn[row].T.numpy(), color=COLOURS[0], **dots)
        return
    for x, colour in zip(drawn, COLOURS, strict=True):
        axis.scatter(*x[:, list(PAIRS[row])].T.numpy(), color=colour, **dots)


def _frame(axis: Axes, target: Target, truth: Sequence[Tensor], row: int) -> None:
    """Fix the limits of a row by the true samples, so that stray samples cannot hide them."""
    if target.event_dim == 1:
        axis.set_xlim(*_range(truth[row][:, 0]))
        return
    outlines = target.outlines(truth[row])
    if outlines is not None:
        axis.set_xlim(*_range(torch.from_numpy(outlines[..., 0])))
        axis.set_ylim(*_range(torch.from_numpy(outlines[..., 1])))
        return
    shown = truth[row] if target.event_dim == 2 else torch.cat([*truth])[:, list(PAIRS[row])]
    axis.set_xlim(*_range(shown[:, 0]))
    axis.set_ylim(*_range(shown[:, 1]))


def _range(x: Tensor) -> tuple[float, float]:
    """Smallest and largest value with a margin of a fifth of the span."""
    low, high = x.min().item(), x.max().item()
    margin = 0.2 * (high - low)
    return low - margin, high + margin
