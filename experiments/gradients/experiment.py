"""Which estimator of the encoder's gradient is right, and how noisy is each?

Three parts, one table and one picture each. (1) A linear-Gaussian chain with two layers, where the
gradient of the ELBO is known in closed form: means against it, variance and signal-to-noise ratio
against k. (2) The MNIST network of Burda et al. before, during and after training. (3) A machine
with binary latents, where reparameterisation does not apply: wake-sleep, reweighted wake-sleep and
VIMCO. SNR = ‖E g‖ / √(trace Var g), of one draw.

Files: out/cells/, out/gradients-linear.json, -network.json, -helmholtz.json (the tables),
out/figures/ (a picture each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import log
from pathlib import Path
from statistics import linear_regression
from types import MappingProxyType
from typing import Any

import torch

from vaerl.densities.options import check_positive, check_seed
from vaerl.experiments.gradients.estimators import BOUND, ELBO, ESTIMATORS, NEEDS_TWO
from vaerl.experiments.gradients.figures import draw
from vaerl.experiments.gradients.helmholtz import METHODS, train_machine
from vaerl.experiments.gradients.linear import NAMES, exact_elbo, linear_draws
from vaerl.experiments.gradients.network import measure_network, spread
from vaerl.experiments.iwae.cell import Autoencoder
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.pool import Tick
from vaerl.lab.table import command_line
from vaerl.names import check_name

PARTS = ("linear", "network", "helmholtz")
LINEAR_ROWS = 10_000  # draws at once
NETWORK_IMAGES = 20
MACHINE_RATE = 3e-3


@dataclass(frozen=True)
class Preset:
    """Sizes of the three parts."""

    #: "mnist" or "drawn"
    images: str
    linear_draws: int
    linear_samples: tuple[int, ...]
    network_draws: int
    network_samples: tuple[int, ...]
    #: epochs of training after which the network is measured
    marks: tuple[int, ...]
    #: layers of the binary machine, x first
    machine: tuple[int, ...]
    machine_samples: int
    machine_epochs: int
    machine_batch: int
    test_images: int
    test_k: int


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(
            "mnist", 50_000, (1, 2, 4, 8, 16, 32, 64), 100, (1, 5, 50), (0, 1, 14),
            (784, 100, 50), 5, 8, 100, 1_000, 1_000,
        ),
        "debug": Preset(
            "drawn", 500, (1, 4), 4, (1, 5), (0, 1), (784, 20, 10), 5, 2, 100, 50, 20,
        ),
    }
)  # fmt: skip


def run(
    out: Path,
    preset: str = "full",
    seed: int = 0,
    data: str | None = None,
    parts: list[str] | None = None,
    threads: int = 1,
) -> Path:
    """Measure the estimators, print the tables, draw the pictures; give the folder.

    Args:
        out: folder of the results; finished parts found there are reused.
        preset: "full", or "debug", which runs whole in seconds on drawn digits.
        seed: of every part.
        data: folder of MNIST's IDX files; VAERL_DATA if None. Read only where it is needed.
        parts: "linear", "network", "helmholtz"; all if None.
        threads: of the numerical libraries.
    """
    budget = PRESETS[check_name("preset", preset, PRESETS)]
    wanted = [check_name("part", part, PARTS) for part in parts or PARTS]
    check_seed("seed", seed)
    check_positive("threads", threads)
    out = Path(out)
    for part in wanted:
        options = {"preset": preset, "seed": seed, "parts": [part]}
        Experiment(partial(measure, data), assemble, draw_part).run(
            [Part(part, seed, budget)],
            out,
            command=command_line("gradients", run, options),
            threads=threads,
            file=f"gradients-{part}.json",
        )
    return out


@dataclass(frozen=True)
class Part(Cell):
    """One of the three parts."""

    part: str
    seed: int
    budget: Preset

    @property
    def name(self) -> str:
        """Such as gradients-linear."""
        return f"gradients-{self.part}"

    @property
    def work(self) -> float:
        """Samples and epochs that are worked through."""
        budget = self.budget
        if self.part == "linear":
            return float(sum(k for _, k in pairs(budget.linear_samples)))
        if self.part == "helmholtz":
            return float(len(METHODS) * budget.machine_epochs)
        samples = sum(k for _, k in pairs(budget.network_samples))
        return float(max(budget.marks) + len(budget.marks) * samples)

    def network(self) -> Autoencoder:
        """The cell of the network that is measured; its images serve the machine too."""
        epochs = max(self.budget.marks)
        images = self.budget.images
        return Autoencoder(1, "iwae", 5, ((5, epochs),), images=images, seed=self.seed)


def pairs(samples: tuple[int, ...]) -> list[tuple[str, int]]:
    """Every estimator with every number of samples that it can use."""
    return [(n, k) for n in ESTIMATORS for k in samples if k > 1 or n not in NEEDS_TWO]


def measure(data: str | None, cell: Part, desk: Desk) -> Measured:
    """Compute one part: the data of its table and its picture."""
    parts = {"linear": measure_linear, "network": along_training, "helmholtz": train_machines}
    return Measured({"data": parts[cell.part](cell, data, desk.tick)})


def assemble(results: Results) -> dict[str, Any]:
    """The record of a part."""
    ((_, cell, found),) = results
    tables = {"linear": linear_table, "network": network_table, "helmholtz": helmholtz_table}
    made = {"data": found["data"], "settings": {"seed": cell["seed"], **cell["budget"]}}
    return {**tables[cell["part"]](found["data"], cell["budget"]), **made}


def draw_part(results: Results, out: Path) -> None:
    """The picture of a part."""
    ((_, cell, found),) = results
    (out / "figures").mkdir(parents=True, exist_ok=True)
    draw(cell["part"], found["data"], out / "figures" / f"gradients-{cell['part']}.png")


# -- the linear-Gaussian chain ---------------------------------------------------------------------


def measure_linear(cell: Part, _: str | None, tick: Tick) -> dict[str, dict[str, Any]]:
    """By estimator and k: mean, its standard error, variance and SNR of one draw."""
    budget, done = cell.budget, 0
    found: dict[str, dict[str, Any]] = {name: {} for name in ESTIMATORS}
    for name, k in pairs(budget.linear_samples):
        number = ESTIMATORS.index(name)  # own draws for each, so that errors are independent
        generator = torch.Generator().manual_seed(1000 * cell.seed + 100 * number + k)
        pieces = range(0, budget.linear_draws, LINEAR_ROWS)
        draws = torch.cat(
            [
                linear_draws(name, k, min(LINEAR_ROWS, budget.linear_draws - start), generator)
                for start in pieces
            ]
        )
        whole = spread(draws)
        found[name][str(k)] = {
            "mean": draws.mean(0).tolist(),
            "error": (draws.std(0) / len(draws) ** 0.5).tolist(),
            "variance": whole.variance,
            "snr": whole.snr,
        }
        done += k
        tick(done)
    return found


def linear_table(
    data: Mapping[str, Mapping[str, Any]], budget: Mapping[str, Any]
) -> dict[str, Any]:
    """How far every mean is from what it should be, variance, SNR and its slope."""
    _, exact = exact_elbo()
    truth = [exact[name] for name in NAMES]
    few, many = str(budget["linear_samples"][1]), str(budget["linear_samples"][-1])
    rows = []
    for name, by_k in data.items():
        known = [by_k[k] for k in by_k if name in ELBO or k == "1"]
        z = [_distance(cell, {"mean": truth, "error": [0.0] * 4}) for cell in known]
        apart = max(_distance(by_k[k], data["total"][k]) for k in by_k if k != "1")
        rows.append(
            [
                name,
                "ELBO" if name in ELBO else "L_k" if name in BOUND else "another",
                f"{max(z):.1f}" if z else "",
                "" if name in (*ELBO, "total") else f"{apart:.1f}",
                *(_digits(by_k[k]["variance"]) for k in (few, many)),
                *(_digits(by_k[k]["snr"]) for k in (few, many)),
                f"{slope(by_k):+.2f}",
            ]
        )
    return {
        "title": "Encoder gradients on the linear-Gaussian chain",
        "caption": (
            "z: largest distance over parameters and k, in standard errors, to the exact gradient "
            "of the ELBO, and at k > 1 to the total derivative of L_k; variance: trace, of one "
            "draw; slope: of log SNR in log k from k = 4 on."
        ),
        "columns": [
            "estimator", "gradient of", "z to exact", "z to total",
            f"variance k={few}", f"k={many}", f"SNR k={few}", f"k={many}", "slope",
        ],
        "rows": rows,
    }  # fmt: skip


def _distance(cell: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Largest |difference| over parameters, in standard errors."""
    columns = zip(cell["mean"], cell["error"], other["mean"], other["error"], strict=True)
    return max(abs(a - b) / max(1e-12, (e * e + f * f) ** 0.5) for a, e, b, f in columns)


def slope(by_k: Mapping[str, Mapping[str, Any]]) -> float:
    """Least-squares slope of log SNR in log k, for k of at least 4; 0 for fewer than two."""
    points = [(int(k), cell["snr"]) for k, cell in by_k.items() if int(k) >= 4 and cell["snr"] > 0]
    if len(points) < 2:
        return 0.0
    return linear_regression(*zip(*((log(k), log(snr)) for k, snr in points), strict=True)).slope


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


# -- the network -----------------------------------------------------------------------------------


def along_training(cell: Part, folder: str | None, tick: Tick) -> dict[str, Any]:
    """By epochs, estimator and k: variance and SNR."""
    network, budget = cell.network(), cell.budget
    done = {"epochs": 0, "samples": 0}

    def show(kind: str, amount: int) -> None:
        done[kind] = amount
        tick(sum(done.values()))

    found = measure_network(
        network.load_digits(folder), network, budget.marks, budget.network_samples,
        budget.network_draws, NETWORK_IMAGES, partial(show, "epochs"), partial(show, "samples"),
    )  # fmt: skip
    return {
        str(mark): {
            name: {str(k): {"variance": s.variance, "snr": s.snr} for k, s in by_k.items()}
            for name, by_k in by_name.items()
        }
        for mark, by_name in found.items()
    }


def network_table(data: Mapping[str, Any], budget: Mapping[str, Any]) -> dict[str, Any]:
    """Variance and SNR after each mark of the training."""
    rows = []
    for mark, by_name in data.items():
        for name, by_k in by_name.items():
            cells = [by_k.get(str(k)) for k in budget["network_samples"]]
            rows.append(
                [
                    mark,
                    name,
                    *("" if c is None else _digits(c["variance"]) for c in cells),
                    *("" if c is None else _digits(c["snr"]) for c in cells),
                ]
            )
    ks = [f"k={k}" for k in budget["network_samples"]]
    return {
        "title": "Encoder gradients of the MNIST network",
        "caption": (
            "Trace of the variance of one draw of the gradient, averaged over "
            f"{NETWORK_IMAGES} images; SNR 0 where the mean is lost in the noise."
        ),
        "columns": [
            "epochs", "estimator", f"variance {ks[0]}", *ks[1:], f"SNR {ks[0]}", *ks[1:],
        ],
        "rows": rows,
    }  # fmt: skip


# -- binary latents --------------------------------------------------------------------------------


def train_machines(cell: Part, folder: str | None, tick: Tick) -> dict[str, list[list[float]]]:
    """[epochs, test NLL] along the training of a machine, by method."""
    digits, budget = cell.network().load_digits(folder), cell.budget
    data: dict[str, list[list[float]]] = {}
    for number, method in enumerate(METHODS):
        before = number * budget.machine_epochs
        curve = train_machine(
            method,
            digits,
            sizes=budget.machine,
            k=budget.machine_samples,
            epochs=budget.machine_epochs,
            batch_size=budget.machine_batch,
            learning_rate=MACHINE_RATE,
            seed=cell.seed,
            test_images=budget.test_images,
            test_k=budget.test_k,
            tick=lambda epochs, before=before: tick(before + epochs),  # type: ignore[misc]
        )[1]
        data[method] = [[float(epoch), nll] for epoch, nll in curve]
    return data


def helmholtz_table(
    data: Mapping[str, list[list[float]]], budget: Mapping[str, Any]
) -> dict[str, Any]:
    """Test NLL along the training."""
    epochs = [f"{int(epoch)} epochs" for epoch, _ in next(iter(data.values()))]
    return {
        "title": "A Helmholtz machine with binary latents: test NLL (nats)",
        "caption": (
            f"Layers {'-'.join(map(str, budget['machine']))}, "
            f"k = {budget['machine_samples']} but for wake-sleep (1); NLL = −mean L_K on "
            f"{budget['test_images']:,} test images, K = {budget['test_k']:,}."
        ),
        "columns": ["method", *epochs],
        "rows": [[method, *(f"{nll:.2f}" for _, nll in curve)] for method, curve in data.items()],
    }
