"""Does the CVAE draw handwritten characters, and a new one after a single example?

Omniglot's eight small background alphabets (Lake, Salakhutdinov & Tenenbaum 2015): 242 characters,
each by twenty people. Writers are the models of the IWAE table (`vaerl experiment iwae-mnist`) on
these characters, with the drawings split by drawer. A pupil is a conditional VAE whose context is
another person's drawing of the character; its alphabets are split, so that it is measured on
characters that it has never seen.

Files: out/cells/ (scores, pictures and state of every cell; an interrupted one goes on),
out/writers.json and out/pupils.json (the tables of all finished cells), out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vaerl.densities.cvae import CVAE
from vaerl.densities.options import check_positive, check_seed
from vaerl.experiments.characters.cell import Writer, WriterTraining
from vaerl.experiments.characters.data import load_characters
from vaerl.experiments.characters.figures import best_of, draw_pupils, draw_writers, key_of
from vaerl.experiments.characters.oneshot import (
    JitteredCopy,
    Lesson,
    pupil_draw,
    pupil_log_prob,
)
from vaerl.experiments.iwae.cell import OBJECTIVES
from vaerl.experiments.iwae.mnist import Digits, binarise
from vaerl.experiments.iwae.networks import LATENTS, nothing
from vaerl.experiments.iwae.score import pictures, score
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.table import command_line
from vaerl.names import check_name

SORTS = ("writers", "pupils")
K = 5
STEPS = 9
"""Images of an interpolation."""
SHOWN = 12
"""Examples in the picture of the pupil."""
MIXED = 50
"""Samples in a picture where they are mixed with as many drawings by people."""

#: epochs of a writer and of the pupil, and what else differs from a cell's defaults
PRESETS: Mapping[str, tuple[int, int, Mapping[str, Any]]] = MappingProxyType(
    {
        "full": (120, 200, {"test_k": 1_000}),
        "debug": (
            2, 2,
            {"images": "drawn", "look": 1, "test_images": 20, "test_k": 60},
        ),
    }
)  # fmt: skip
PICTURE_NOTE = (
    "The squares of the mixed picture that are samples stand in this record, under "
    "data.samples_in_picture."
)
RECOGNISER_EPOCHS = {"characters": 30, "drawn": 1}


def make_cells(
    preset: str = "full",
    seed: int = 0,
    sorts: list[str] | None = None,
    epochs: int | None = None,
    test_k: int | None = None,
) -> dict[str, list[Writer]]:
    """The cells of each sort."""
    writer, pupil, options = PRESETS[check_name("preset", preset, PRESETS)]
    changes = dict(options)
    if test_k is not None:
        changes["test_k"] = check_positive("test_k", test_k)
    cells = {
        "writers": [
            Writer(layers, objective, K, ((K, writer),), seed=seed, group=preset, **changes)
            for layers in LATENTS
            for objective in OBJECTIVES
        ],
        "pupils": [
            Writer(
                1,
                "iwae",
                K,
                ((K, pupil),),
                seed=seed,
                group=preset,
                example=True,
                precision="float32",
                **changes,
            )
        ],
    }
    asked = [check_name("sort", sort, SORTS) for sort in sorts or SORTS]
    if epochs is None:
        return {sort: cells[sort] for sort in asked}
    plan = ((K, check_positive("epochs", epochs)),)
    return {sort: [replace(cell, phases=plan) for cell in cells[sort]] for sort in asked}


def run(
    out: Path,
    preset: str = "full",
    seed: int = 0,
    data: str | None = None,
    sorts: list[str] | None = None,
    epochs: int | None = None,
    test_k: int | None = None,
    threads: int = 1,
) -> Path:
    """Train and score the missing cells, print the tables, draw; return the last table's file.

    Args:
        out: folder of the results; finished cells found there are reused, others go on.
        preset: "full" (some minutes of one core for a writer, ten for the pupil), or "debug", which
            runs whole in seconds on drawn digits.
        seed: of initialisation, training, pairs and test binarisation.
        data: folder that holds omniglot-small.npz, itself or in a folder omniglot; VAERL_DATA if
            None.
        sorts: "writers", "pupils"; both if None.
        epochs: of every cell, instead of the preset's.
        test_k: samples K of the test NLL; a trained cell is only scored again.
        threads: of the numerical libraries.
    """
    check_seed("seed", seed)
    check_positive("threads", threads)
    path = Path(out)
    cells = make_cells(preset, seed, sorts, epochs, test_k)
    options = {
        "preset": preset, "seed": seed, "sorts": sorts, "epochs": epochs, "test_k": test_k,
    }  # fmt: skip
    command = command_line("characters", run, options)
    load_characters(next(iter(cells.values()))[0].images, data)  # fails at once without the file
    for sort, some in cells.items():
        table, draw = (
            (table_of_writers, draw_writers)
            if sort == "writers"
            else (table_of_pupils, draw_pupils)
        )
        experiment = Experiment(partial(measure, data), table, draw)
        path = experiment.run(some, out, command=command, threads=threads, file=f"{sort}.json")
    return path


def measure(data: str | None, cell: Writer, desk: Desk) -> Measured:
    """Train and score one cell, from wherever its state stands."""
    everything = load_characters(cell.images, data)
    part = everything.by_alphabet if cell.example else everything.by_drawer
    training = WriterTraining(cell, part("training"), part("choosing"))
    training.run(desk.state, desk.tick)
    found: dict[str, Any] = {
        "train_seconds": sum(training.seconds),
        "epoch": int(training.chosen["epoch"]),
        "chosen_bound": float(training.chosen["bound"]),
        "train_bound": -training.losses[-1],
        "images": {name: len(part(name)) for name in ("training", "choosing", "test")},
    }
    new, density = part("test"), training.best
    if cell.example:
        lesson = Lesson(new, cell.seed, RECOGNISER_EPOCHS[cell.images])
        learned = part("training")
        generator = torch.Generator().manual_seed(cell.seed)
        rows = torch.randperm(len(learned), generator=generator)[:500]
        partners = learned.images[learned.others(generator, rows)]
        copy = JitteredCopy.fitted(partners, binarise(learned.images[rows], generator))
        log_prob = pupil_log_prob(density, cell.test_k, cell.seed)
        draw, order = pupil_draw(density), torch.randperm(len(lesson.examples), generator=generator)
        rows, mixed = order[:SHOWN], order[-MIXED:]
        examples = lesson.examples[rows]
        draws = torch.stack([draw(examples, generator) for _ in range(6)], 1)
        return Measured(
            found
            | {
                "pupil": lesson.measure(log_prob, draw, cell.seed),
                "copy": lesson.measure(copy.log_prob, copy.draw, cell.seed),
                "people": lesson.people(),
                "characters": int(lesson.asked.max()) + 1,
                "examples": len(lesson.examples),
                "blur": copy.blur,
                "floor": copy.floor,
                "reach": copy.reach,
            },
            {
                "examples": examples,
                "draws": draws,
                "others": lesson.another[rows],
                "real": lesson.another[mixed],
                "samples": draw(lesson.examples[mixed], generator),
            },
        )
    order = torch.randperm(len(new), generator=torch.Generator().manual_seed(cell.seed))
    digits = Digits(part("training").images, new.images[order].contiguous())
    scores = score(density, digits, cell)
    drawn = pictures(density, digits, cell, MIXED)
    return Measured(
        found | scores,
        {
            **{name: drawn[name] for name in ("real", "samples")},
            "between": between(density, digits.test[:10], cell.seed),
        },
    )


@torch.no_grad()
def between(density: CVAE, grey: Tensor, seed: int) -> Tensor:
    """Images ``(n / 2, STEPS, 784)`` on the way from each even to the next odd drawing: p(x | h_1)
    at means of q(h_1 | x) that are mixed linearly."""
    x = binarise(grey, torch.Generator().manual_seed(seed))
    chain, context = density.chain, nothing(len(x))
    mean = chain.recognition[0](x, chain.recognise(context)[0]).moments()[0]
    share = torch.linspace(0.0, 1.0, STEPS).reshape(1, -1, 1)
    path = (1.0 - share) * mean[0::2, None] + share * mean[1::2, None]
    p = chain.generate(nothing(1))
    return chain.decode(p, (path,)).moments()[0].contiguous()


def table_of_writers(results: Results) -> dict[str, Any]:
    """NLL and active units of each writer."""
    rows = [
        [
            str(r.cell["layers"]), r.cell["objective"], str(r.cell["k"]),
            f"{r.data['nll']:.2f} ± {1.96 * r.data['nll_error']:.2f}",
            "+".join(map(str, r.data["active"])), f"{-r.data['chosen_bound']:.2f}",
            f"{r.data['epoch']} of {sum(n for _, n in r.cell['phases'])}",
            f"{r.data['train_seconds'] / 60:.1f}",
        ]
        for r in results
    ]  # fmt: skip
    sizes, cell = results[0].data["images"], results[0].cell
    count = min(sizes["test"], cell["test_images"])
    return {
        "title": "Handwritten characters: test NLL (nats) and active units",
        "caption": (
            f"NLL = −mean L_K, K = {cell['test_k']:,}, over {count:,} drawings by drawers 16 to 20 "
            f"(± 95 % over drawings), who chose nothing; trained on {sizes['training']:,} by "
            f"drawers 1 to 13, the epoch chosen on {sizes['choosing']} by drawers 14 and 15 (bound "
            "with 20 samples). Active units as on MNIST, h_1 first."
        ),
        "columns": [
            "layers", "objective", "k", "test NLL", "active", "choosing drawers", "epoch",
            "CPU minutes",
        ],
        "rows": rows,
        "notes": [
            "Eight alphabets, a split of our own: numbers on the whole of Omniglot do not compare.",
            PICTURE_NOTE,
        ],
        "settings": {r.path.stem: dict(r.cell) for r in results},
        "data": {
            "samples_in_picture": key_of(best_of(results)),
            **{r.path.stem: dict(r.data) for r in results},
        },
    }  # fmt: skip


def table_of_pupils(results: Results) -> dict[str, Any]:
    """The pupil, the jittered copy and people."""
    rows, data = [], results[0].data
    names = {"pupil": "conditional VAE", "copy": "example, moved", "people": "people"}
    for name, title in names.items():
        found = data[name]
        known = "nll" in found
        rows.append(
            [
                title,
                f"{found['nll']:.1f} ± {1.96 * found['nll_error']:.1f}" if known else "",
                f"{found['nll_wrong']:.1f}" if known else "",
                f"{found['told_apart']:.2f}" if known else "",
                f"{found['read']:.2f}",
                f"{found['overlap']:.2f}",
                f"{found['variety']:.2f}" if known else "",
            ]
        )
    return {
        "title": "A new character after one example",
        "caption": (
            f"{data['examples']} examples of {data['characters']} characters of two alphabets that "
            "were in no training. NLL (nats, ± 95 % over examples) of another person's drawing "
            f"after the example and after one of another character (a bound with K = "
            f"{results[0].cell['test_k']:,}; exact for the moved example); how often the right "
            "example gives the lower one; share of samples read as the character by a recogniser "
            "trained on fifteen other people; overlap of samples with their example, and of two "
            "samples with each other (1: the same ink)."
        ),
        "columns": [
            "model",
            "NLL",
            "wrong example",
            "told apart",
            "read right",
            "overlap with example",
            "with each other",
        ],
        "rows": rows,
        "notes": [
            f"{data['images']['training']:,} drawings of the other alphabets for training, under "
            f"the eight symmetries of the square; {data['images']['choosing']} chose the epoch "
            f"({data['epoch']}).",
            f"The example is moved by up to {data['reach']} pixels each way, blurred with "
            f"σ = {data['blur']} pixels, and has ink elsewhere with probability {data['floor']}, "
            "chosen on training pairs.",
            f"CPU minutes of training: {data['train_seconds'] / 60:.1f}.",
            PICTURE_NOTE,
        ],
        "settings": {r.path.stem: dict(r.cell) for r in results},
        "data": {
            "samples_in_picture": key_of(results[0]),
            **{r.path.stem: dict(r.data) for r in results},
        },
    }
