"""One fit of the density suite: a model, a target, a budget; training, score, files.

A fit is pure data. Its result lies in out/fits/TARGET.MODEL.sSEED.json, its parameters beside it as
.safetensors; a result is reused as long as it was made from the same data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vaerl.densities import ConditionalDensity, make_density
from vaerl.disk import files
from vaerl.experiments.density_suite.laws import Target, estimate
from vaerl.experiments.density_suite.targets import make_target
from vaerl.threads import limit_threads

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
class Fit:
    """One cell of the table: which model is fitted to which target, under which budget."""

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

    def path(self, out: Path) -> Path:
        """Where the result lies; the parameters lie beside it as .safetensors."""
        return out / "fits" / f"{self.law_name}.{self.model}.s{self.seed}.json"

    @property
    def law_name(self) -> str:
        """Name of the target, marked where it is the validation variant."""
        return f"{self.target}-validation" if self.validation else self.target

    def law(self) -> Target:
        """The target itself."""
        return make_target(self.target, self.validation)

    def record(self) -> dict[str, Any]:
        """What determines the result, as plain data: a saved fit with the same record is reused."""
        return json.loads(json.dumps(asdict(self)))


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


def train(model: Standardised, fit: Fit, tick: Callable[[], None] | None = None) -> None:
    """Minimise the model's own loss over `fit.steps` fresh batches; `tick` is called every step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=fit.settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, fit.steps)
    for contexts, x in islice(training_batches(fit), fit.steps):
        loss = model.loss(contexts, x).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        if tick is not None:
            tick()


@torch.no_grad()
def score(model: Standardised, fit: Fit) -> dict[str, float]:
    """Gap to the truth on the held-out points, its standard error, and how flat the bound is in K.

    `rise_half_k` is the mean of L_K − L_{K/2} over 2,000 points: 0 for an exact density.
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
    }


def _log_prob_lower(model: Standardised, contexts: Tensor, x: Tensor, k: int) -> Tensor:
    """Lower bound in chunks that hold about 100,000 latent samples: (n,) in float64."""
    size = max(1, 100_000 // k)
    chunks = zip(contexts.split(size), x.split(size), strict=True)
    return torch.cat([model.log_prob_lower(c, e, k).double() for c, e in chunks])


def load_model(fit: Fit, out: Path) -> Standardised:
    """The trained model of a fit that has been run."""
    with torch.random.fork_rng(devices=[]):
        model = build(fit)
    model.load_state_dict(load_file(fit.path(out).with_suffix(".safetensors")))
    return model.eval()


def is_done(fit: Fit, out: Path) -> bool:
    """True where a result with the very same settings lies on disk."""
    path = fit.path(out)
    if not path.exists() or not path.with_suffix(".safetensors").exists():
        return False
    return json.loads(path.read_text())["fit"] == fit.record()


def run_fit(fit: Fit, out: Path, tick: Callable[[], None] | None = None) -> dict[str, Any]:
    """Train and score one model on one torch thread, write both files, give the result."""
    with limit_threads(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.seed)
        model = build(fit)
        start, start_cpu = time.perf_counter(), time.process_time()
        train(model.train(), fit, tick)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        scores = score(model.eval(), fit)
    result = {
        "fit": fit.record(),
        **scores,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "score_seconds": round(time.perf_counter() - start - seconds, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    path = fit.path(out)
    files.make_directory(path.parent)
    files.write_bytes(path.with_suffix(".safetensors"), save(model.state_dict()))
    files.write_text(path, json.dumps(result, indent=1))
    return result
