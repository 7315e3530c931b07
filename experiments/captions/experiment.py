"""Does a chain of conditional VAEs draw what a caption says, also what it has never seen together?

alignDRAW (Mansimov, Parisotto, Ba & Salakhutdinov 2016) in small: T steps, each a conditional VAE
with one stochastic layer and weights shared by the steps, a learned sequential prior, a
deterministic recurrent recognition network, attention over the words. To the core it is a `CVAE`
over captions whose latent is the whole path; bounds and gradients are the core's. Beside it a fully
connected and a convolutional CVAE (also the core's) and a Laplacian pyramid of GANs.

Measured: the bound log P(image | caption) with right, wrong and empty captions; the right caption
among 16; whether samples show what the caption says, by a classifier trained on real images, for
combinations seen in training and held out of it; attention by kind of word.

Files: out/<model>.safetensors (states; a finished model is not trained again, an interrupted one
goes on), out/results.json (the table), out/figures/.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vaerl.densities.cvae import CVAE
from vaerl.densities.options import check_positive, check_seed
from vaerl.disk import files, jsonio
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
    caption_bounds,
    caption_choice,
    density_sampler,
    flips,
    measured_scenes,
)
from vaerl.experiments.captions.training import Fit, state_of
from vaerl.names import check_name
from vaerl.runs.console import print_table, training_bar
from vaerl.runs.directory import versions
from vaerl.threads import limit_threads

MODELS = ("drawing", "connected", "convolutional", "laplacian-gan")
TITLES = {
    "drawing": "chain of CVAEs with attention",
    "connected": "fully connected CVAE",
    "convolutional": "conv-deconv CVAE",
    "laplacian-gan": "Laplacian-pyramid GAN",
}
CLIP = 20.0  # norm of a gradient


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
    """Train what is not trained, measure, print the table, draw the pictures; give results.json.

    Args:
        out: folder of the results; trained models found there are reused.
        preset: "full" (some 40 minutes of one core), "short" (15), or "debug", which runs whole in
            seconds on drawn digits.
        seed: of initialisation, training and the scenes measured.
        data: folder of MNIST's IDX files, images and labels; VAERL_DATA if None.
        models: which to train: "drawing", "connected", "convolutional", "laplacian-gan"; all if
            None. The table is of all finished ones in the folder.
        threads: torch threads.
    """
    budget = PRESETS[check_name("preset", preset, PRESETS)]
    asked = [check_name("model", name, MODELS) for name in models or MODELS]
    check_positive("threads", threads)
    check_seed("seed", seed)
    out = Path(out)
    glyphs = {part: load_glyphs(budget.images, part, data) for part in ("train", "test")}
    with limit_threads(threads):
        fits = {name: make_fit(name, budget, glyphs["train"], seed) for name in ("judge", *asked)}
        _train(fits, out)
        for name in MODELS:  # the table is of all that is finished
            if name not in fits and state_of(out, name).exists():
                fit = make_fit(name, budget, glyphs["train"], seed)
                if fit.finished(out):
                    fits[name] = fit
        wanted = [name for name in MODELS if name in fits]
        scenes = measured_scenes(glyphs["test"], budget.scenes, seed)
        judge = fits["judge"].module
        assert isinstance(judge, Judge), type(judge)
        real = {kind: judge.agreement(images, some) for kind, (some, images) in scenes.items()}
        samplers = {TITLES[name]: _sampler(fits[name].module) for name in wanted}
        results = {}
        with training_bar({"measuring": len(wanted)}) as advance:
            for number, name in enumerate(wanted, 1):
                results[name] = _measure(
                    fits[name], samplers[TITLES[name]], judge, scenes, budget, seed
                )
                advance("measuring", number)
        drawer = fits["drawing"].module if "drawing" in fits else None
        draw_figures(out, samplers, drawer, scenes, seed)  # type: ignore[arg-type]
    command = f"vaerl experiment captions --preset {preset} --seed {seed}"
    command += f" --models {','.join(wanted)}" if wanted != [*MODELS] else ""
    record = assemble(results, real, budget, command)
    path = out / "results.json"
    files.write_text(path, jsonio.dumps(record, indent=1) + "\n")
    print_table(record["title"], record["columns"], record["rows"])
    for line in (record["caption"], *record["notes"]):
        print(line)
    return path


def make_fit(name: str, budget: Preset, glyphs: Glyphs, seed: int) -> Fit:
    """The training of one model, or of the judge; images are painted anew for every update."""
    mean = paint(*_mean_scenes(glyphs)).mean(0)
    rate, size = budget.rates[name], budget.batch_size
    step: Callable[[torch.Generator], Tensor]
    if name == "judge":
        module: Any = Judge(seed)
        optimisers: Any = (torch.optim.Adam(module.parameters(), rate),)

        def step(generator: torch.Generator) -> Tensor:
            scenes = draw_scenes(size, generator, None)  # all combinations: it has to know them
            loss = module.loss(paint(scenes, glyphs, generator), scenes)
            _descend(loss, optimisers[0])
            return loss.detach()

    elif name == "laplacian-gan":
        module = LaplacianGAN(budget.sizes.words, seed=seed)
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
                budget.sizes, mean, seed, objective="elbo", encoder_gradient="total"
            )
        else:
            module = build_rival(
                name, mean, seed, budget.sizes.words, objective="elbo", encoder_gradient="stl"
            )
        optimisers = (torch.optim.Adam(module.parameters(), rate),)

        def step(generator: torch.Generator) -> Tensor:
            scenes = draw_scenes(size, generator)
            images = paint(scenes, glyphs, generator)
            loss, _ = module.loss(scenes.tokens, images, diagnostics=False, generator=generator)
            _descend(loss.mean(), optimisers[0])
            return loss.detach().mean()

    settings = {
        "images": budget.images, "seed": seed, "updates": budget.updates[name], "rate": rate,
        "batch_size": size, "sizes": asdict(budget.sizes),
    }  # fmt: skip
    return Fit(name, module, optimisers, budget.updates[name], step, settings, seed)


def _mean_scenes(glyphs: Glyphs) -> tuple[Any, Glyphs, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    return draw_scenes(1_000, generator), glyphs, generator


def _descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimiser.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], CLIP)
    optimiser.step()


def _train(fits: Mapping[str, Fit], out: Path) -> None:
    with training_bar({name: fit.updates for name, fit in fits.items()}) as advance:
        for name, fit in fits.items():
            fit.run(out, lambda done, name=name: advance(name, done))  # type: ignore[misc]


def _sampler(model: Any) -> Sampler:
    """How a model draws binary images of captions."""
    if isinstance(model, CVAE):
        return density_sampler(model)
    return lambda tokens, generator: (model.sample(tokens, generator) > 0.5).float()


def _measure(
    fit: Fit, sample: Sampler, judge: Judge, scenes: Any, budget: Preset, seed: int
) -> dict[str, Any]:
    """All that the table and the page need of one model, as plain data."""
    result: dict[str, Any] = {
        "updates": fit.updates,
        "minutes": fit.seconds / 60.0,
        "curve": fit.curve,
        "agreement": agreement(judge, sample, scenes, seed),
        "flips": flips(judge, sample, budget.scenes, seed),
    }
    if isinstance(fit.module, CVAE):
        result["bounds"] = {
            kind: caption_bounds(fit.module, some, images, budget.k, seed)
            for kind, (some, images) in scenes.items()
        }
        some, images = scenes["seen"]
        result["choice"] = caption_choice(
            fit.module, some, images, budget.choices, budget.choice_k, seed
        )
    if fit.name == "drawing":
        result["attention"] = attention_mass(fit.module, scenes["seen"][0], seed)  # type: ignore[arg-type]
    return result


def assemble(
    results: Mapping[str, Mapping[str, Any]],
    real: Mapping[str, Mapping[str, float]],
    budget: Preset,
    command: str,
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
    updates = ", ".join(f"{TITLES[name]} {r['updates']:,}" for name, r in results.items())
    return {
        "title": "Images from captions",
        "caption": (
            f"One or two digits of 14 × 14 pixels ({budget.images}) in four colours on a canvas of "
            f"28 × 28, batches of {budget.batch_size}; updates: {updates}. log P: mean bound L_"
            f"{budget.k} on {budget.scenes} test images, in nats, with the right caption and with "
            f"another image's. 1 of 16: how often the right caption has the largest L_"
            f"{budget.choice_k} among 16 ({budget.choices} images). Then the share of samples "
            "that show what the caption says, by the classifier: place, colours, digits, and all "
            f"of it; last two for combinations kept out of training, a digit at a new place and a "
            f"digit in a new colour ({budget.scenes} captions each). CPU minutes: of training, one "
            "thread."
        ),
        "columns": [
            "model", "log P", "shuffled", "1 of 16", *ASPECTS, *HELD_OUT[1:], "CPU minutes",
        ],
        "rows": rows,
        "notes": notes,
        "data": {**results, "real": real},
        "command": command,
        "versions": {
            **{name: versions()[name] for name in ("vaerl", "python", "torch")},
            "machine": platform.machine(),
        },
    }  # fmt: skip
