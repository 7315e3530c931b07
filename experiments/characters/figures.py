"""Pictures of characters: samples among real ones, interpolation, new characters after an example.

Everything is read from the finished cells; no data set is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaerl.lab.cells import Result
from vaerl.lab.experiment import Results

COLUMNS = 10
KEY_SEED = 20  # of the order in the mixed picture

Images = NDArray[np.float32]


def draw_writers(results: Results, out: Path) -> None:
    """The mixed picture and the interpolation of the writer with the lowest NLL."""
    arrays = best_of(results).arrays()
    _draw_mixed(arrays, out, "writers-mixed")
    steps = arrays["between"]
    figure = _figure(5.0, 0.6 * len(steps) + 0.4)
    title = "from the code of one drawing (left) to that of another (right)"
    _show(figure.subplots(), steps.reshape(-1, steps.shape[-1]), steps.shape[1], title)
    _save(figure, out, "writers-between")


def draw_pupils(results: Results, out: Path) -> None:
    """The mixed picture; and in each line an example, samples after it, and another person's
    drawing."""
    arrays = results[0].arrays()
    _draw_mixed(arrays, out, "pupils-mixed")
    examples, draws, others = (arrays[name] for name in ("examples", "draws", "others"))
    figure = _figure(6.4, 0.55 * len(examples) + 0.4)
    drawn = (draws.reshape(-1, draws.shape[-1]) > 0.5).astype(np.float32)
    parts = (
        (examples, 1, "example"), (drawn, draws.shape[1], "samples"), (others, 1, "another"),
    )  # fmt: skip
    axes = figure.subplots(1, 3, width_ratios=[count for _, count, _ in parts])
    for axis, (images, columns, title) in zip(axes, parts, strict=True):
        _show(axis, images, columns, title)
    _save(figure, out, "pupils-samples")


def best_of(results: Results) -> Result:
    """The cell with the lowest NLL."""
    return min(results, key=lambda result: float(result.data["nll"]))


def key_of(result: Result) -> list[tuple[int, int]]:
    """Row and column, from 1, of the samples in the mixed picture."""
    count = len(result.arrays()["real"])
    places = np.flatnonzero(_order(count) >= count).tolist()
    return [(place // COLUMNS + 1, place % COLUMNS + 1) for place in places]


def _draw_mixed(arrays: Mapping[str, Images], out: Path, name: str) -> None:
    """People's drawings and samples in a random order."""
    mixed = np.concatenate([arrays["real"], arrays["samples"]])[_order(len(arrays["real"]))]
    figure = _figure(5.0, 5.2)
    title = "people's drawings and samples, mixed"
    _show(figure.subplots(), (mixed > 0.5).astype(np.float32), COLUMNS, title)
    _save(figure, out, name)


def _order(count: int) -> NDArray[np.int64]:
    """The order in which real drawings (first) and samples are shown."""
    return np.random.default_rng(KEY_SEED).permutation(2 * count)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _show(axis: Axes, images: Images, columns: int, title: str) -> None:
    """Images ``(n, 784)`` in a grid, with a thin line between them."""
    rows = len(images) // columns
    page = np.pad(images.reshape(rows, columns, 28, 28), ((0, 0), (0, 0), (1, 1), (1, 1)))
    page = page.transpose(0, 2, 1, 3).reshape(rows * 30, columns * 30)
    axis.imshow(page, cmap="gray_r")
    axis.set_title(title, fontsize=8)
    axis.axis("off")


def _save(figure: Figure, out: Path, name: str) -> None:
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=100)
