"""One fit of the density suite: a model, a target, a budget; its training and its score."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.densities import ConditionalDensity, make_density
from vaerl.experiments.density_suite.laws import Target, estimate
from vaerl.experiments.density_suite.targets import make_target
from vaerl.lab.cells import Cell, Desk, Measured, Result
from vaerl.lab.pool import Tick

TEST_SEED = 7_919  # added to the seed of the fit: the test draw never meets the training draws


@dataclass(frozen=True)
class Model:
    """A density by name, its options and its learning rate."""

    density: str
    learning_rate: float
    options: Mapping[str, Any] = field(default_factory=dict)


class Standardised(nn.Module):
    """A density of x through z = (x − mean)/scale: log p(x|c) = log p_z(z|c) − Σ log scale.

    `density` models z; mean and scale (X,) are buffers, so they are saved with the parameters.
    """

    density: ConditionalDensity
    mean: Tensor
    scale: Tensor

    def __init__(self, density: ConditionalDensity, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.density = density
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())

    def loss(self, contexts: Tensor, x: Tensor) -> Tensor:
        """Per-sample objective (n,) in the units of x."""
        z = (x - self.mean) / self.scale
        loss, _ = self.density.loss(contexts, z, diagnostics=False)
        return loss + self.scale.log().sum()

    def log_prob_lower(self, contexts: Tensor, x: Tensor, k: int) -> Tensor:
        """log p(x | c) where it is exact, else its lower bound with k samples: (n,)."""
        z = (x - self.mean) / self.scale
        return self.density(contexts).log_prob_bounds(z, k).lower - self.scale.log().sum()

    def sample(self, contexts: Tensor) -> Tensor:
        """One sample for each context (n, C): (n, X)."""
        return self.mean + self.scale * self.density(contexts).sample()


@dataclass(frozen=True)
class Fit(Cell):
    """Which model is fitted to which target, under which budget."""

    target: str
    model: str
    seed: int
    steps: int
    batch_size: int
    test_points: int
    test_k: int
    settings: Model
    #: fit the target's validation variant, on which settings are chosen
    validation: bool = False

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Fit:
        """The fit that `as_data` describes."""
        return cls(**{**data, "settings": Model(**data["settings"])})

    @property
    def name(self) -> str:
        """Such as ring-2d.cvae-k16.s0."""
        return f"{self.law_name}.{self.model}.s{self.seed}"

    @property
    def work(self) -> float:
        """Steps of the optimiser."""
        return float(self.steps)

    @property
    def law_name(self) -> str:
        """Name of the target, marked if it is the validation variant."""
        return f"{self.target}-validation" if self.validation else self.target

    def law(self) -> Target:
        """The target itself."""
        return make_target(self.target, self.validation)


def build(fit: Fit) -> Standardised:
    """The untrained model of a fit, with the standardisation of its target (seeded)."""
    target = fit.law()
    _, x = target.draw(20_000, torch.Generator().manual_seed(fit.seed))
    density = make_density(
        fit.settings.density,
        context_dim=target.context_dim,
        event_dim=target.event_dim,
        **fit.settings.options,
    )
    return Standardised(density, x.mean(0), x.std(0))


def training_batches(fit: Fit) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless fresh batches in float32; drawn 50 at a time because small draws are slow."""
    target, generator = fit.law(), torch.Generator().manual_seed(fit.seed + 1)
    while True:
        contexts, x = target.draw(50 * fit.batch_size, generator)
        yield from zip(
            contexts.float().split(fit.batch_size), x.float().split(fit.batch_size), strict=True
        )


def held_out(fit: Fit) -> tuple[Tensor, Tensor]:
    """The test points, the same for every model of a target and seed: (n, C) and (n, X)."""
    return fit.law().draw(fit.test_points, torch.Generator().manual_seed(fit.seed + TEST_SEED))


def train(model: Standardised, fit: Fit, tick: Tick | None = None) -> None:
    """Minimise the model's own loss over `fit.steps` fresh batches; `tick` gets the steps done."""
    optimiser = torch.optim.Adam(model.parameters(), lr=fit.settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, fit.steps)
    for step, (contexts, x) in enumerate(islice(training_batches(fit), fit.steps), 1):
        loss = model.loss(contexts, x).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        if tick is not None:
            tick(step)


@torch.no_grad()
def score(model: Standardised, fit: Fit) -> dict[str, float]:
    """Gap to the truth on the held-out points, its standard error, and how flat the bound is in K.

    `rise_half_k` is the mean of L_K − L_{K/2} over 2,000 points: 0 for an exact density. Scores of
    the target itself follow.
    """
    contexts, x = held_out(fit)
    truth = fit.law().log_prob(contexts, x)
    lower = _log_prob_lower(model, contexts.float(), x.float(), fit.test_k)
    few = slice(0, 2_000)
    half = _log_prob_lower(model, contexts[few].float(), x[few].float(), fit.test_k // 2)
    gap, error = estimate(truth - lower)
    return {
        "gap": gap,
        "gap_error": error,
        "nll": -lower.mean().item(),
        "true_nll": -truth.mean().item(),
        "rise_half_k": (lower[few] - half).mean().item(),
        **fit.law().judge(lambda contexts: model.sample(contexts.float())),
    }


def _log_prob_lower(model: Standardised, contexts: Tensor, x: Tensor, k: int) -> Tensor:
    """Lower bound in chunks that hold about 100,000 latent samples: (n,) in float64."""
    size = max(1, 100_000 // k)
    chunks = zip(contexts.split(size), x.split(size), strict=True)
    return torch.cat([model.log_prob_lower(c, e, k).double() for c, e in chunks])


def load_model(result: Result) -> Standardised:
    """The trained model of a finished fit."""
    with torch.random.fork_rng(devices=[]):
        model = build(Fit.from_data(result.cell))
    model.load_state_dict({name: torch.as_tensor(x) for name, x in result.arrays().items()})
    return model.eval()


def measure(fit: Fit, desk: Desk) -> Measured:
    """Train and score one model; its parameters are the arrays of the cell."""
    torch.manual_seed(fit.seed)
    model = build(fit)
    start = time.process_time()
    train(model.train(), fit, desk.tick)
    seconds = round(time.process_time() - start, 2)
    scores = score(model.eval(), fit)
    return Measured({**scores, "cpu_seconds": seconds}, model.state_dict())
