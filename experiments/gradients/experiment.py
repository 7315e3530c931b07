"""Which estimator of the encoder's gradient is right, and how noisy is each?

Three parts, one table and one picture each. (1) A linear-Gaussian chain with two layers, where the
gradient of the ELBO is known in closed form: means against it, variance and signal-to-noise ratio
against k. (2) The MNIST network of Burda et al. before, during and after training. (3) A machine
with binary latents, where reparameterisation does not apply: wake-sleep, reweighted wake-sleep and
VIMCO. SNR = ‖E g‖ / √(trace Var g), of one draw.

Files: out/gradients-linear.json, -network.json, -helmholtz.json (the tables; a finished one is not
repeated, one of other settings is refused) and out/figures/ (a picture each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from statistics import linear_regression
from types import MappingProxyType
from typing import Any

import torch

from vaerl.densities.options import check_positive, check_seed
from vaerl.disk import files, jsonio
from vaerl.experiments.gradients.estimators import BOUND, ELBO, ESTIMATORS, NEEDS_TWO
from vaerl.experiments.gradients.figures import draw
from vaerl.experiments.gradients.helmholtz import METHODS, train_machine
from vaerl.experiments.gradients.linear import NAMES, exact_elbo, linear_draws
from vaerl.experiments.gradients.network import measure_network, spread
from vaerl.experiments.iwae.cell import Cell
from vaerl.experiments.iwae.mnist import Digits
from vaerl.lab.records import check_same, read_record
from vaerl.names import check_name
from vaerl.runs.console import print_table, training_bar
from vaerl.runs.directory import versions
from vaerl.threads import limit_threads

PARTS = ("linear", "network", "helmholtz")
LINEAR_ROWS = 10_000  # draws at once
NETWORK_IMAGES = 20
RECORD = ("title", "columns", "rows", "data", "settings")
"""What is read of a finished part."""
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
        threads: torch threads.
    """
    budget = PRESETS[check_name("preset", preset, PRESETS)]
    wanted = [check_name("part", part, PARTS) for part in parts or PARTS]
    check_seed("seed", seed)
    check_positive("threads", threads)
    out = Path(out)
    cell = Cell(1, "iwae", 5, ((5, max(budget.marks)),), images=budget.images, seed=seed)
    settings = {"seed": seed, **asdict(budget)}
    paths = {part: out / f"gradients-{part}.json" for part in wanted}
    records = {part: read_record(path, RECORD) for part, path in paths.items()}
    for part, record in records.items():
        if record is not None:
            check_same(paths[part], record["settings"], settings)
    unread = any(record is None and part != "linear" for part, record in records.items())
    digits = cell.load_digits(data) if unread else None
    files.make_directory(out / "figures")
    for part, record in records.items():
        if record is None:
            with limit_threads(threads):
                record = _measure(part, budget, seed, digits, cell)
            record["command"] = f"vaerl experiment gradients --parts {part} --preset {preset}"
            record["command"] += f" --seed {seed}"
            record["settings"] = settings
            record["versions"] = {n: versions()[n] for n in ("vaerl", "python", "torch")}
            files.write_text(paths[part], jsonio.dumps(record, indent=1) + "\n")
        print_table(record["title"], record["columns"], record["rows"])
        draw(part, record["data"], out / "figures" / f"gradients-{part}.png")
    return out


def _measure(
    part: str, budget: Preset, seed: int, digits: Digits | None, cell: Cell
) -> dict[str, Any]:
    if part == "linear":
        return linear_record(measure_linear(budget, seed), budget)
    assert digits is not None, part
    if part == "network":
        return network_record(digits, cell, budget)
    return helmholtz_record(digits, budget, seed)


# -- the linear-Gaussian chain ---------------------------------------------------------------------


def measure_linear(budget: Preset, seed: int) -> dict[str, dict[str, Any]]:
    """By estimator and k: mean, its standard error, variance and SNR of one draw."""
    found: dict[str, dict[str, Any]] = {name: {} for name in ESTIMATORS}
    pairs = [
        (name, k)
        for name in ESTIMATORS
        for k in budget.linear_samples
        if k > 1 or name not in NEEDS_TWO
    ]
    with training_bar({"linear-Gaussian chain": sum(k for _, k in pairs)}) as advance:
        done = 0
        for name, k in pairs:
            number = ESTIMATORS.index(name)  # own draws for each, so that errors are independent
            generator = torch.Generator().manual_seed(1000 * seed + 100 * number + k)
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
            advance("linear-Gaussian chain", done)
    return found


def linear_record(data: dict[str, dict[str, Any]], budget: Preset) -> dict[str, Any]:
    """The table: how far every mean is from what it should be, variance, SNR and its slope."""
    _, exact = exact_elbo()
    truth = [exact[name] for name in NAMES]
    few, many = str(budget.linear_samples[1]), str(budget.linear_samples[-1])
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
            f"Two layers, {budget.linear_draws:,} draws for every estimator and k in "
            f"{', '.join(map(str, budget.linear_samples))}. z: largest distance, over the "
            f"parameters {', '.join(NAMES)} and k, in standard errors (the "
            "largest of up to 28): of estimators of the ELBO, and of all at k = 1, to the exact "
            "gradient; at k > 1 to the total derivative of L_k, which is unbiased. Variance: "
            "trace, of one draw. Slope: of log SNR in log k for k of at least 4."
        ),
        "columns": [
            "estimator", "gradient of", "z to exact", "z to total",
            f"variance k={few}", f"k={many}", f"SNR k={few}", f"k={many}", "slope",
        ],
        "rows": rows,
        "data": data,
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


def network_record(digits: Digits, cell: Cell, budget: Preset) -> dict[str, Any]:
    """Measure, and make the table: variance and SNR after each mark of the training."""
    training, title = "epochs of the network", "gradients of the network"
    total = len(budget.marks) * sum(
        k for n in ESTIMATORS for k in budget.network_samples if k > 1 or n not in NEEDS_TWO
    )
    with training_bar({training: max(budget.marks), title: total}) as advance:
        found = measure_network(
            digits, cell, budget.marks, budget.network_samples,
            budget.network_draws, NETWORK_IMAGES,
            lambda epochs: advance(training, epochs), lambda done: advance(title, done),
        )  # fmt: skip
    data = {
        str(mark): {
            name: {str(k): {"variance": s.variance, "snr": s.snr} for k, s in by_k.items()}
            for name, by_k in by_name.items()
        }
        for mark, by_name in found.items()
    }
    rows = []
    for mark, by_name in data.items():
        for name, by_k in by_name.items():
            cells = [by_k.get(str(k)) for k in budget.network_samples]
            rows.append(
                [
                    mark,
                    name,
                    *("" if c is None else _digits(c["variance"]) for c in cells),
                    *("" if c is None else _digits(c["snr"]) for c in cells),
                ]
            )
    ks = [f"k={k}" for k in budget.network_samples]
    return {
        "title": "Encoder gradients of the MNIST network",
        "caption": (
            f"One stochastic layer (784-200-200-50), trained with IWAE, k = 5, for the epochs of "
            f"the first column; mean gradient over {NETWORK_IMAGES} fixed images "
            f"({cell.images}), {budget.network_draws} draws. Trace of the variance of one draw; "
            "SNR 0 where the mean is lost in the noise."
        ),
        "columns": [
            "epochs", "estimator", f"variance {ks[0]}", *ks[1:], f"SNR {ks[0]}", *ks[1:],
        ],
        "rows": rows,
        "data": data,
    }  # fmt: skip


# -- binary latents --------------------------------------------------------------------------------


def helmholtz_record(digits: Digits, budget: Preset, seed: int) -> dict[str, Any]:
    """Train a machine with each method, and make the table: test NLL along the training."""
    data: dict[str, list[list[float]]] = {}
    with training_bar(dict.fromkeys(METHODS, budget.machine_epochs)) as advance:
        for method in METHODS:
            curve = train_machine(
                method,
                digits,
                sizes=budget.machine,
                k=budget.machine_samples,
                epochs=budget.machine_epochs,
                batch_size=budget.machine_batch,
                learning_rate=MACHINE_RATE,
                seed=seed,
                test_images=budget.test_images,
                test_k=budget.test_k,
                tick=lambda epochs, method=method: advance(method, epochs),  # type: ignore[misc]
            )[1]
            data[method] = [[float(epoch), nll] for epoch, nll in curve]
    epochs = [f"{int(epoch)} epochs" for epoch, _ in next(iter(data.values()))]
    sizes = "-".join(map(str, budget.machine))
    return {
        "title": "A Helmholtz machine with binary latents: test NLL (nats)",
        "caption": (
            f"Layers {sizes}, every factor Bernoulli(σ(linear)); Adam at {MACHINE_RATE:g}, batches "
            f"of {budget.machine_batch}, {len(digits.train):,} images ({budget.images}), "
            f"k = {budget.machine_samples} but for wake-sleep (1); NLL = −mean L_K on "
            f"{budget.test_images:,} test images, K = {budget.test_k:,}."
        ),
        "columns": ["method", *epochs],
        "rows": [[method, *(f"{nll:.2f}" for _, nll in curve)] for method, curve in data.items()],
        "data": data,
    }
