"""Does a chain of conditional VAEs draw what a caption says, even for unseen combinations?

alignDRAW (Mansimov, Parisotto, Ba & Salakhutdinov 2016) in small: T steps, each a conditional VAE
with one stochastic layer and weights shared by the steps, a learned sequential prior, a
deterministic recurrent recognition network, attention over the words. To the core it is a `CVAE`
over captions whose latent is the whole path; bounds and gradients are the core's. Beside it a fully
connected and a convolutional CVAE (also the core's) and a Laplacian pyramid of GANs.

Measured: the bound log P(image | caption) with right, wrong and empty captions; the right caption
among 16; whether samples show what the caption says, by a classifier trained on real images, for
combinations seen in training and held out of it; attention by kind of word.

Files: out/cells/ (scores and state of every model; an interrupted training goes on),
out/results.json (the table of all finished models), out/figures/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from vaerl.densities import ConditionalDensity
from vaerl.densities.options import check_positive, check_seed
from vaerl.experiments.captions.chain import Sizes, build_drawer
from vaerl.experiments.captions.data import (
    HELD_OUT,
    Glyphs,
    draw_scenes,
    load_glyphs,
    paint,
)
from vaerl.experiments.captions.figures import draw_figures
from vaerl.experiments.captions.gan import LaplacianGAN
from vaerl.experiments.captions.judge import ASPECTS, Judge
from vaerl.experiments.captions.rivals import build_rival
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
)
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.table import command_line
from vaerl.lab.trainer import Trainer
from vaerl.names import check_name

MODELS = ("drawing", "connected", "convolutional", "laplacian-gan")
TITLES = {
    "drawing": "chain of CVAEs with attention",
    "connected": "fully connected CVAE",
    "convolutional": "conv-deconv CVAE",
    "laplacian-gan": "Laplacian-pyramid GAN",
}
CLIP = 20.0  # norm of a gradient
CURVE = 50  # updates a point of the learning curve


@dataclass(frozen=True)
class Preset:
    """Sizes and budgets of one run."""

    #: "mnist" or "drawn"
    images: str
    sizes: Sizes
    batch_size: int
    #: by model, about the same CPU time each, and of the judge
    updates: Mapping[str, int]
    #: learning rates of Adam
    rates: Mapping[str, float]
    #: scenes of each kind on which models are measured
    scenes: int
    #: samples of the bound, and of the choice among captions
    k: int
    choice_k: int
    choices: int


_RATES = MappingProxyType(
    {
        "judge": 1e-3, "drawing": 4e-3, "connected": 1e-3, "convolutional": 1e-3,
        "laplacian-gan": 5e-4,
    }
)  # fmt: skip

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(
            "mnist", Sizes(), 100,
            {
                "judge": 3_000, "drawing": 5_000, "connected": 14_000, "convolutional": 9_500,
                "laplacian-gan": 2_000,
            },
            _RATES, 400, 20, 5, 100,
        ),
        "short": Preset(
            "mnist", Sizes(), 100,
            {
                "judge": 3_000, "drawing": 1_600, "connected": 4_500, "convolutional": 3_000,
                "laplacian-gan": 640,
            },
            _RATES, 300, 10, 5, 60,
        ),
        "debug": Preset(
            "drawn", Sizes(3, 4, 16, 8, 8, 4, 4), 20,
            {"judge": 4, "drawing": 4, "connected": 4, "convolutional": 4, "laplacian-gan": 4},
            _RATES, 20, 2, 2, 3,
        ),
    }
)  # fmt: skip


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
        preset: "full" (some 40 minutes of one core), "short" (15), or "debug", which runs whole in
            seconds on drawn digits.
        seed: of initialisation, training and the scenes measured.
        data: folder of MNIST's IDX files, images and labels; VAERL_DATA if None.
        models: which to train: "drawing", "connected", "convolutional", "laplacian-gan"; all if
            None. The table shows all finished ones in the folder.
        threads: of the numerical libraries.
    """
    asked = [check_name("model", name, MODELS) for name in models or MODELS]
    check_name("preset", preset, PRESETS)
    check_positive("threads", threads)
    check_seed("seed", seed)
    load_glyphs(PRESETS[preset].images, "train", data)  # fails at once if the files are missing

    def is_alike(cell: Mapping[str, Any]) -> bool:
        return cell == make_cell(cell["model"], preset, seed).as_data()

    experiment = Experiment(partial(measure, data), partial(table_of, preset), partial(draw, data))
    cells = [make_cell(name, preset, seed) for name in ("judge", *asked)]
    return experiment.run(cells, out, threads=threads, others=is_alike)


@dataclass(frozen=True)
class Model(Cell):
    """A model, or the judge: its training and the size of its measurement."""

    remeasured: ClassVar[tuple[str, ...]] = ("scenes", "k", "choice_k", "choices")

    model: str
    preset: str
    seed: int
    images: str
    updates: int
    rate: float
    batch_size: int
    sizes: Sizes
    scenes: int
    k: int
    choice_k: int
    choices: int

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Model:
        """The cell that `as_data` describes."""
        return cls(**{**data, "sizes": Sizes(**data["sizes"])})

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    @property
    def work(self) -> float:
        """Updates."""
        return float(self.updates)


def make_cell(name: str, preset: str, seed: int) -> Model:
    """The cell of a model, or of the judge."""
    budget = PRESETS[preset]
    return Model(
        name, preset, seed, budget.images, budget.updates[name], budget.rates[name],
        budget.batch_size, budget.sizes, budget.scenes, budget.k, budget.choice_k, budget.choices,
    )  # fmt: skip


def make_trainer(cell: Model, glyphs: Glyphs) -> Trainer:
    """The training of one model, or of the judge; every update paints new images."""
    mean = paint(*_mean_scenes(glyphs)).mean(0)
    name, seed, rate, size = cell.model, cell.seed, cell.rate, cell.batch_size
    step: Callable[[torch.Generator], Tensor]
    if name == "judge":
        module: Any = Judge(seed)
        optimisers: Any = (torch.optim.Adam(module.parameters(), rate),)

        def step(generator: torch.Generator) -> Tensor:
            scenes = draw_scenes(size, generator, None)  # it has to judge all combinations
            images = paint(scenes, glyphs, generator)
            with torch.random.fork_rng(devices=[]):  # its dropout has no generator
                torch.manual_seed(generator.initial_seed())
                _descend(loss := module.loss(images, scenes), optimisers[0])
            return loss.detach()

    elif name == "laplacian-gan":
        module = LaplacianGAN(cell.sizes.words, seed=seed)
        optimisers = module.optimisers(rate)

        def step(generator: torch.Generator) -> Tensor:
            scenes = draw_scenes(size, generator)
            images, tokens = paint(scenes, glyphs, generator), scenes.tokens
            _descend(module.judging_loss(images, tokens, generator), optimisers[1])
            loss = module.drawing_loss(images, tokens, generator)
            _descend(loss, optimisers[0])
            return loss.detach()

    else:
        if name == "drawing":
            # The total derivative needs one pass of recognition, the others a second one.
            module = build_drawer(
                cell.sizes, mean, seed, objective="elbo", encoder_gradient="total"
            )
        else:
            module = build_rival(
                name, mean, seed, cell.sizes.words, objective="elbo", encoder_gradient="stl"
            )
        optimisers = (torch.optim.Adam(module.parameters(), rate),)

        def step(generator: torch.Generator) -> Tensor:
            scenes = draw_scenes(size, generator)
            images = paint(scenes, glyphs, generator)
            loss, _ = module.loss(scenes.tokens, images, diagnostics=False, generator=generator)
            _descend(loss.mean(), optimisers[0])
            return loss.detach().mean()

    return Trainer(
        module, optimisers, step, cell.updates, cell.as_data(), seed=seed, free=cell.remeasured
    )


def _mean_scenes(glyphs: Glyphs) -> tuple[Any, Glyphs, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    return draw_scenes(1_000, generator), glyphs, generator


def _descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimiser.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], CLIP)
    optimiser.step()


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
    return Measured(result)


def draw(data: str | None, results: Results, out: Path) -> None:
    """Pictures of all finished models, from their saved states."""
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
    draw_figures(out, samplers, models.get("drawing"), scenes, cell.seed)


def table_of(preset: str, results: Results) -> dict[str, Any]:
    """The table of all finished models, and its command."""
    found = {result.cell["model"]: result.data for result in results}
    models = {name: found[name] for name in MODELS if name in found}
    cell = results[0].cell
    options = {
        "preset": preset, "seed": cell["seed"], "models": [*models] if len(models) < 4 else None
    }  # fmt: skip
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
    if "drawing" in results:
        chain = results["drawing"]
        bounds = ", ".join(
            f"{kind}: right {b['right']['mean']:.1f} ± {b['right']['error']:.1f}, "
            f"shuffled {b['shuffled']['mean']:.1f}, empty {b['empty']['mean']:.1f}"
            for kind, b in chain["bounds"].items()
        )
        notes.append(f"Bounds of the chain in nats, by kind of scene: {bounds}.")
        mass = ", ".join(
            f"{kind} {sum(each) / len(each):.2f}" for kind, each in chain["attention"].items()
        )
        notes.append(f"Attention of the chain by kind of word, mean over the steps: {mass}.")
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
