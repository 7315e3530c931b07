"""The models of `captions`: their sizes, budgets and trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from vaerl.experiments.captions.chain import Sizes, build_drawer
from vaerl.experiments.captions.composer import (
    ABLATIONS,
    Composition,
    build_composer,
)
from vaerl.experiments.captions.data import Glyphs, draw_scenes, paint
from vaerl.experiments.captions.gan import LaplacianGAN
from vaerl.experiments.captions.judge import Judge
from vaerl.experiments.captions.rivals import build_rival
from vaerl.lab.cells import Cell
from vaerl.lab.trainer import Trainer

MODELS = ("composer", "drawing", "connected", "convolutional", "laplacian-gan")
"""Those of the table, without ablations."""
TITLES = {
    "composer": "composing CVAE",
    "composer-states": "– reads word states",
    "composer-wide": "– wide window",
    "composer-sharp": "– sharp attention at once",
    "composer-kl": "– weight 1 of the KL throughout",
    "drawing": "chain of CVAEs with attention",
    "connected": "fully connected CVAE",
    "convolutional": "conv-deconv CVAE",
    "laplacian-gan": "Laplacian-pyramid GAN",
}
ALL = tuple(TITLES)
"""Names of all models, in the order of the table."""
CLIP = 20.0  # norm of a gradient
CURVE = 50  # updates a point of the learning curve


@dataclass(frozen=True)
class Preset:
    """Sizes and budgets of one run."""

    #: "mnist" or "drawn"
    images: str
    sizes: Sizes
    composition: Composition
    batch_size: int
    #: by model, and of the judge; the rivals get more CPU time than the composer
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
        "judge": 1e-3, "composer": 2e-3, "drawing": 4e-3, "connected": 1e-3, "convolutional": 1e-3,
        "laplacian-gan": 5e-4,
    }
)  # fmt: skip

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(
            "mnist", Sizes(), Composition(), 100,
            {
                "judge": 3_000, "composer": 6_000, "drawing": 5_000, "connected": 14_000,
                "convolutional": 9_500, "laplacian-gan": 2_000,
            },
            _RATES, 400, 20, 5, 100,
        ),
        "short": Preset(
            "mnist", Sizes(), Composition(), 100,
            {
                "judge": 3_000, "composer": 3_000, "drawing": 1_600, "connected": 4_500,
                "convolutional": 3_000, "laplacian-gan": 640,
            },
            _RATES, 300, 10, 5, 60,
        ),
        "debug": Preset(
            "drawn", Sizes(3, 4, 16, 8, 8, 4, 4), Composition(2, 3, 6, 4, 16, 4), 20,
            dict.fromkeys(_RATES, 4),
            _RATES, 20, 2, 2, 3,
        ),
    }
)  # fmt: skip


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
    #: of the composer and its ablations
    composition: Composition | None
    scenes: int
    k: int
    choice_k: int
    choices: int

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Model:
        """The cell that `as_data` describes."""
        composition = data["composition"] and Composition(**data["composition"])
        return cls(**{**data, "sizes": Sizes(**data["sizes"]), "composition": composition})

    @property
    def name(self) -> str:
        """Such as composer-s0."""
        return f"{self.model}-s{self.seed}"

    @property
    def work(self) -> float:
        """Updates."""
        return float(self.updates)


def make_cell(name: str, preset: str, seed: int) -> Model:
    """The cell of a model, or of the judge."""
    budget, composes = PRESETS[preset], name == "composer" or name in ABLATIONS
    like = "composer" if composes else name
    composition = replace(budget.composition, **ABLATIONS.get(name, {})) if composes else None
    return Model(
        name, preset, seed, budget.images, budget.updates[like], budget.rates[like],
        budget.batch_size, budget.sizes, composition, budget.scenes, budget.k, budget.choice_k,
        budget.choices,
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
        # The total derivative needs one pass of a network that p and q share, others a second one.
        shared = {"objective": "elbo", "encoder_gradient": "total"}
        prepare: Callable[[float], float] | None = None
        if cell.composition is not None:
            module = build_composer(cell.composition, seed, **shared)
            prepare = module.chain.prepare
        elif name == "drawing":
            module = build_drawer(cell.sizes, mean, seed, **shared)
        else:
            module = build_rival(
                name, mean, seed, cell.sizes.words, objective="elbo", encoder_gradient="stl"
            )
        optimisers = (torch.optim.Adam(module.parameters(), rate),)

        def step(generator: torch.Generator) -> Tensor:
            scenes = draw_scenes(size, generator)
            images = paint(scenes, glyphs, generator)
            weight = prepare(trainer.done / trainer.rounds) if prepare else 1.0
            loss, info = module.loss(
                scenes.tokens, images, diagnostics=False, kl_weight=weight, generator=generator
            )
            _descend(loss.mean(), optimisers[0])
            return info["nll_bound"]

    trainer = Trainer(
        module, optimisers, step, cell.updates, cell.as_data(), seed=seed, free=cell.remeasured
    )
    return trainer


def _mean_scenes(glyphs: Glyphs) -> tuple[Any, Glyphs, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    return draw_scenes(1_000, generator), glyphs, generator


def _descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimiser.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], CLIP)
    optimiser.step()
