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

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from vaerl.densities import ConditionalDensity
from vaerl.densities.options import check_positive
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
from vaerl.lab.stats import interval
from vaerl.lab.table import command_lines
from vaerl.names import check_name


def run(
    out: Path,
    preset: str = "full",
    seeds: list[int] | None = None,
    data: str | None = None,
    models: list[str] | None = None,
    threads: int = 1,
) -> Path:
    """Train the missing models, measure, print the table, draw the pictures; return results.json.

    Args:
        out: folder of the results; trained models found there are reused.
        preset: "full" (some 45 minutes of one core a seed), "short" (15), or "debug", which runs
            whole in seconds on drawn digits.
        seeds: of initialisation, training and the scenes measured; 0 by default. Pictures show the
            first.
        data: folder of MNIST's IDX files, images and labels; VAERL_DATA if None.
        models: which to train: "composer", "drawing", "connected", "convolutional",
            "laplacian-gan", by default these; or an ablation of the first, "composer-states",
            "composer-wide", "composer-sharp", "composer-kl". The table shows all finished ones.
        threads: of the numerical libraries.
    """
    asked = [check_name("model", name, ALL) for name in models or MODELS]
    check_name("preset", preset, PRESETS)
    check_positive("threads", threads)
    chosen = seeds or [0]
    load_glyphs(PRESETS[preset].images, "train", data)  # fails at once if the files are missing

    def is_alike(cell: Mapping[str, Any]) -> bool:
        return cell == make_cell(cell["model"], preset, cell["seed"]).as_data()

    experiment = Experiment(partial(measure, data), partial(table_of, preset), partial(draw, data))
    cells = [make_cell(name, preset, seed) for seed in chosen for name in ("judge", *asked)]
    return experiment.run(
        cells, out, command="vaerl experiment captions", threads=threads, others=is_alike
    )


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
    judging_cell = make_cell("judge", cell.preset, cell.seed)
    judging = make_trainer(judging_cell, glyphs["train"])
    judging.run(desk.path.with_name(f"{judging_cell.name}.state"))
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
    """Pictures of the first seed's models but ablations, from their saved states."""
    first = min(int(r.cell["seed"]) for r in results)
    cells = {
        r.cell["model"]: (Model.from_data(r.cell), r.path)
        for r in results
        if r.cell["seed"] == first
    }
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
    """The table of all finished models, and its commands."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for r in sorted(results, key=lambda r: int(r.cell["seed"])):
        found.setdefault(r.cell["model"], {})[r.cell["seed"]] = r.data
    models = {name: found[name] for name in ALL if name in found}
    made = [("", name, seed) for name, own in models.items() for seed in own]
    return {
        **assemble(models, found["judge"], results[0].cell),
        "settings": {r.path.stem: r.cell for r in results},
        "data": {r.path.stem: r.data for r in results},
        "command": "\n".join(command_lines("captions", run, made, preset=preset)),
    }


def assemble(
    models: Mapping[str, Mapping[int, Mapping[str, Any]]],
    judges: Mapping[int, Mapping[str, Any]],
    cell: Mapping[str, Any],
) -> dict[str, Any]:
    """The table: bounds in nats, the choice among captions, and caption accuracies, over seeds."""
    rows = []
    for name, own in models.items():
        results = [*own.values()]
        bounds = [r["bounds"]["seen"] for r in results if "bounds" in r]
        rows.append(
            [
                TITLES[name],
                str(len(own)),
                *(
                    interval([b[words]["mean"] for b in bounds], 1) if bounds else ""
                    for words in ("right", "shuffled")
                ),
                interval([r["choice"] for r in results], 2) if bounds else "",
                *_shares(results),
                interval([r["minutes"] for r in results], 1),
            ]
        )
    judged = [judges[seed] for seed in judges if any(seed in own for own in models.values())]
    rows.append(["real images", str(len(judged)), "", "", "", *_shares(judged), ""])
    return {
        "title": "Images from captions",
        "caption": (
            f"log P: mean bound L_{cell['k']} in nats with the right caption and with another "
            "image's; 1 of 16: how often the right caption has the largest bound; then the share "
            "of samples that show what the caption says, in the last two columns for combinations "
            "kept out of training. Over several seeds with the 95 % interval (Student's t)."
        ),
        "columns": [
            "model", "seeds", "log P", "shuffled", "1 of 16", *ASPECTS, *HELD_OUT[1:],
            "CPU minutes",
        ],
        "rows": rows,
        "notes": [
            *(note for name, own in models.items() for note in _notes(name, own)),
            "Words are changed in captions of one digit, from and to combinations of training, and "
            "the noise is kept.",
        ],
    }  # fmt: skip


def _shares(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Shares of images that show an aspect of a seen caption, and all of a new combination."""
    asked = [("seen", aspect) for aspect in ASPECTS] + [(kind, "all") for kind in HELD_OUT[1:]]
    return [interval([r["agreement"][kind][part] for r in results], 2) for kind, part in asked]


def _notes(name: str, own: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """What the table has no room for: shares by seed; bounds, attention and flips, their means."""
    title, notes = TITLES[name], []
    results: list[Any] = [*own.values()]

    def mean(*keys: str) -> float:
        values: list[Any] = results
        for key in keys:
            values = [value[key] for value in values]
        return fmean(values)

    if len(own) > 1:
        shares = "; ".join(
            f"seed {seed} {', '.join(_shares([result])[-3:])}" for seed, result in own.items()
        )
        notes.append(f"All aspects of seen captions, new places, new colours ({title}): {shares}.")
    if name in ("composer", "drawing"):
        bounds = ", ".join(
            f"{kind}: "
            + ", ".join(
                f"{w} {mean('bounds', kind, w, 'mean'):.1f}" for w in results[0]["bounds"][kind]
            )
            for kind in results[0]["bounds"]
        )
        notes.append(f"Bounds in nats, by kind of scene ({title}): {bounds}.")
    read = results[0].get("attention", {})
    if name == "drawing":
        mass = ", ".join(
            f"{kind} {fmean(fmean(r['attention'][kind]) for r in results):.2f}" for kind in read
        )
        notes.append(f"Attention by kind of word, mean over the steps ({title}): {mass}.")
    elif read:
        mass = "; ".join(
            f"{aspect} reads "
            + ", ".join(
                f"{kind} {max(0.0, mean('attention', aspect, kind)):.2f}" for kind in masses
            )
            for aspect, masses in read.items()
        )
        notes.append(f"Attention in captions of two things ({title}): {mass}.")
    told = "; ".join(
        f"{aspect} obeyed {mean('flips', aspect, 'obeyed'):.2f}, the rest kept "
        f"{mean('flips', aspect, 'kept'):.2f}"
        for aspect in results[0]["flips"]
    )
    return [*notes, f"One word changed ({title}): {told}."]
