"""Do conditional VAEs draw what a caption says, even for unseen combinations?

Two ways to draw. alignDRAW (Mansimov, Parisotto, Ba & Salakhutdinov 2016) in small: T steps, each a
conditional VAE with one stochastic layer and weights shared by the steps, a learned sequential
prior, a recurrent recognition network, attention over the words (`chain.py`). And a CVAE that
composes an image of things, whose places, colours and shapes are read apart (`composer.py`), with
ablations. To the core both are a `CVAE` over captions; bounds and gradients are the core's. Beside
them a fully connected and a convolutional CVAE (also the core's) and a Laplacian pyramid of GANs.

Measured: the bound log P(image | caption) with right, wrong and empty captions; the right caption
among 16; whether samples show what the caption says, by a classifier trained on real images, for
combinations seen in training and held out of it; attention by kind of word.

Files: out/cells/ (scores and state of every model; an interrupted training goes on),
out/results.json (the table of all finished models), out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from vaerl.densities import ConditionalDensity
from vaerl.densities.options import check_positive, check_seed
from vaerl.experiments.captions.data import HELD_OUT, load_glyphs
from vaerl.experiments.captions.figures import draw_figures
from vaerl.experiments.captions.judge import ASPECTS
from vaerl.experiments.captions.scores import (
    Sampler,
    agreement,
    attention_mass,
    binary_sampler,
    caption_bounds,
    caption_choice,
    density_sampler,
    flips,
    measured_scenes,
    reading_mass,
)
from vaerl.experiments.captions.training import (
    ALL,
    CURVE,
    MODELS,
    PRESETS,
    TITLES,
    Model,
    make_cell,
    make_trainer,
)
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.table import command_line
from vaerl.names import check_name


def run(
    out: Path,
    preset: str = "full",
    seed: int = 0,
    data: str | None = None,
    models: list[str] | None = None,
    threads: int = 1,
) -> Path:
    """Train the missing models, measure, print the table, draw the pictures; return results.json.

    Args:
        out: folder of the results; trained models found there are reused.
        preset: "full" (some 45 minutes of one core), "short" (15), or "debug", which runs whole in
            seconds on drawn digits.
        seed: of initialisation, training and the scenes measured.
        data: folder of MNIST's IDX files, images and labels; VAERL_DATA if None.
        models: which to train: "composer", "drawing", "connected", "convolutional",
            "laplacian-gan", by default these; or an ablation of the first, "composer-states",
            "composer-wide", "composer-sharp", "composer-kl". The table shows all finished ones.
        threads: of the numerical libraries.
    """
    asked = [check_name("model", name, ALL) for name in models or MODELS]
    check_name("preset", preset, PRESETS)
    check_positive("threads", threads)
    check_seed("seed", seed)
    load_glyphs(PRESETS[preset].images, "train", data)  # fails at once if the files are missing

    def is_alike(cell: Mapping[str, Any]) -> bool:
        return cell == make_cell(cell["model"], preset, seed).as_data()

    experiment = Experiment(partial(measure, data), partial(table_of, preset), partial(draw, data))
    cells = [make_cell(name, preset, seed) for name in ("judge", *asked)]
    return experiment.run(cells, out, threads=threads, others=is_alike)


def _sampler(model: Any) -> Sampler:
    """How a model draws binary images of captions."""
    if isinstance(model, ConditionalDensity):
        return density_sampler(model)
    return binary_sampler(model.sample)


def measure(data: str | None, cell: Model, desk: Desk) -> Measured:
    """Train one model and measure it, after the judge that scores it."""
    glyphs = {part: load_glyphs(cell.images, part, data) for part in ("train", "test")}
    trainer = make_trainer(cell, glyphs["train"])
    trainer.run(desk.state, desk.tick)
    scenes = measured_scenes(glyphs["test"], cell.scenes, cell.seed)
    model: Any = trainer.module
    if cell.model == "judge":
        return Measured({"agreement": {k: model.agreement(x, s) for k, (s, x) in scenes.items()}})
    judging = make_trainer(make_cell("judge", cell.preset, cell.seed), glyphs["train"])
    judging.run(desk.path.with_name("judge.state"))
    judge: Any = judging.module
    sample = _sampler(model)
    each = range(0, cell.updates // CURVE * CURVE, CURVE)
    result: dict[str, Any] = {
        "updates": cell.updates,
        "minutes": sum(trainer.seconds) / 60.0,
        "curve": [sum(trainer.losses[start : start + CURVE]) / CURVE for start in each],
        "agreement": agreement(judge, sample, scenes, cell.seed),
        "flips": flips(judge, sample, cell.scenes, cell.seed),
    }
    if isinstance(model, ConditionalDensity):
        result["bounds"] = {
            kind: caption_bounds(model, some, images, cell.k, cell.seed)
            for kind, (some, images) in scenes.items()
        }
        result["choice"] = caption_choice(
            model, *scenes["seen"], cell.choices, cell.choice_k, cell.seed
        )
    if cell.model == "drawing":
        result["attention"] = attention_mass(model, scenes["seen"][0], cell.seed)
    if cell.composition is not None:
        result["attention"] = reading_mass(model, scenes["seen"][0])
    return Measured(result)


def draw(data: str | None, results: Results, out: Path) -> None:
    """Pictures of all finished models but ablations, from their saved states."""
    cells = {r.cell["model"]: (Model.from_data(r.cell), r.path) for r in results}
    models: dict[str, Any] = {}
    for name in (name for name in MODELS if name in cells):
        cell, path = cells[name]
        trainer = make_trainer(cell, load_glyphs(cell.images, "train", data))
        trainer.run(path.with_suffix(".state"))
        models[name] = trainer.module
    cell = cells["judge"][0]
    scenes = measured_scenes(load_glyphs(cell.images, "test", data), cell.scenes, cell.seed)
    samplers = {TITLES[name]: _sampler(model) for name, model in models.items()}
    draw_figures(out, samplers, models.get("composer"), models.get("drawing"), scenes, cell.seed)


def table_of(preset: str, results: Results) -> dict[str, Any]:
    """The table of all finished models, and its command."""
    found = {result.cell["model"]: result.data for result in results}
    models = {name: found[name] for name in ALL if name in found}
    cell = results[0].cell
    names = None if [*models] == [*MODELS] else [*models]
    options = {"preset": preset, "seed": cell["seed"], "models": names}
    return {
        **assemble(models, found["judge"]["agreement"], cell),
        "settings": {result.cell["model"]: result.cell for result in results},
        "command": command_line("captions", run, options),
    }


def assemble(
    results: Mapping[str, Mapping[str, Any]],
    real: Mapping[str, Mapping[str, float]],
    cell: Mapping[str, Any],
) -> dict[str, Any]:
    """The table: bounds in nats, the choice among captions, and caption accuracies."""

    def shares(found: Mapping[str, Mapping[str, float]]) -> list[str]:
        seen = [f"{found['seen'][aspect]:.2f}" for aspect in ASPECTS]
        return [*seen, *(f"{found[kind]['all']:.2f}" for kind in HELD_OUT[1:])]

    rows = []
    for name, result in results.items():
        bounds = result.get("bounds", {}).get("seen")
        rows.append(
            [
                TITLES[name],
                *(f"{bounds[w]['mean']:.1f}" if bounds else "" for w in ("right", "shuffled")),
                f"{result['choice']:.2f}" if bounds else "",
                *shares(result["agreement"]),
                f"{result['minutes']:.1f}",
            ]
        )
    rows.append(["real images", "", "", "", *shares(real), ""])
    notes = []
    for name in ("composer", "drawing"):
        if name not in results:
            continue
        bounds = ", ".join(
            f"{kind}: right {b['right']['mean']:.1f} ± {b['right']['error']:.1f}, "
            f"shuffled {b['shuffled']['mean']:.1f}, empty {b['empty']['mean']:.1f}"
            for kind, b in results[name]["bounds"].items()
        )
        notes.append(f"Bounds in nats, by kind of scene ({TITLES[name]}): {bounds}.")
    for name, result in results.items():
        if name == "drawing":
            mass = ", ".join(f"{kind} {fmean(m):.2f}" for kind, m in result["attention"].items())
            notes.append(
                f"Attention by kind of word, mean over the steps ({TITLES[name]}): {mass}."
            )
        elif "attention" in result:
            mass = "; ".join(
                f"{aspect} reads " + ", ".join(f"{kind} {m:.2f}" for kind, m in masses.items())
                for aspect, masses in result["attention"].items()
            )
            notes.append(f"Attention in captions of two things ({TITLES[name]}): {mass}.")
    for name, result in results.items():
        told = "; ".join(
            f"{aspect} obeyed {share['obeyed']:.2f}, the rest kept {share['kept']:.2f}"
            for aspect, share in result["flips"].items()
        )
        notes.append(f"One word changed, the noise kept ({TITLES[name]}): {told}.")
    return {
        "title": "Images from captions",
        "caption": (
            f"log P: mean bound L_{cell['k']} in nats with the right caption and with another "
            "image's; 1 of 16: how often the right caption has the largest bound; then the share "
            "of samples that show what the caption says, in the last two columns for combinations "
            "kept out of training."
        ),
        "columns": [
            "model", "log P", "shuffled", "1 of 16", *ASPECTS, *HELD_OUT[1:], "CPU minutes",
        ],
        "rows": rows,
        "notes": notes,
        "data": {**results, "real": real},
    }  # fmt: skip
