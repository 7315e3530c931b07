"""The density suite: its score is right, its fits resume, and its debug preset runs whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vaerl.densities import Bounds
from vaerl.experiments.density_suite.experiment import MODELS, SUITE, make_fits, run
from vaerl.experiments.density_suite.fit import (
    Fit,
    Model,
    Standardised,
    build,
    held_out,
    load_model,
    score,
    train,
    training_batches,
)
from vaerl.experiments.density_suite.laws import Target
from vaerl.lab.cells import read_cell

FIT = Fit("ring-2d", "gaussian", 0, 5, 32, 200, 4, Model("gaussian", 1e-2))


class Oracle(nn.Module):
    """A "density" that knows the target, off by a constant: what scores must read exactly."""

    def __init__(self, target: Target, mean: Tensor, scale: Tensor, excess: float = 0.0) -> None:
        super().__init__()
        self.target, self.mean, self.scale, self.excess = target, mean, scale, excess

    def __call__(self, contexts: Tensor) -> Oracle:
        self.contexts = contexts
        return self

    def log_prob_bounds(self, z: Tensor, k: int) -> Bounds:
        x = self.mean.double() + self.scale.double() * z.double()
        log_prob = self.target.log_prob(self.contexts, x) + self.scale.double().log().sum()
        return Bounds(log_prob - self.excess / k, None)


@pytest.mark.parametrize("name", ["moerland-1d", "pinwheel-2d", "low-rank-6d"])
def test_the_truth_scores_zero(name: str) -> None:
    """A model equal to the truth has gap 0 with no noise, whatever the standardisation."""
    fit = replace(FIT, target=name)
    mean = torch.linspace(-1.0, 2.0, fit.law().event_dim)
    scale = torch.linspace(0.3, 3.0, fit.law().event_dim)
    scores = score(Standardised(Oracle(fit.law(), mean, scale), mean, scale), fit)
    assert scores["gap"] == pytest.approx(0.0, abs=2e-4)
    assert scores["gap_error"] < 1e-4
    assert scores["rise_half_k"] == pytest.approx(0.0, abs=2e-4)


def test_a_loose_bound_shows_in_gap_and_in_the_rise_with_k() -> None:
    """L_K = log p − 1/K gives gap 1/K, and L_K − L_{K/2} = 1/K."""
    mean, scale = torch.zeros(2), torch.ones(2)
    scores = score(Standardised(Oracle(FIT.law(), mean, scale, excess=1.0), mean, scale), FIT)
    assert scores["gap"] == pytest.approx(0.25, abs=1e-3)
    assert scores["rise_half_k"] == pytest.approx(0.25, abs=1e-3)
    assert scores["nll"] - scores["true_nll"] == pytest.approx(scores["gap"], abs=1e-6)


def test_standardisation_keeps_the_density_normalised() -> None:
    """∫ p(x | c) dx = 1 in the units of x, and samples have its mean and scale."""
    torch.manual_seed(0)
    fit = replace(FIT, target="moerland-1d")
    model = build(fit)
    assert model.mean.item() == pytest.approx(2.28, abs=0.05)
    grid = torch.linspace(-20.0, 25.0, 9001).unsqueeze(-1)
    contexts = torch.full((9001, 1), 0.3)
    with torch.no_grad():
        log_prob = model.log_prob_lower(contexts, grid, 1)
        samples = model.sample(contexts)
        loss = model.loss(contexts, grid)
    assert (log_prob.exp() * 45.0 / 9000).sum().item() == pytest.approx(1.0, abs=1e-3)
    mass = (log_prob.exp() * 45.0 / 9000).unsqueeze(-1)
    mean = (mass * grid).sum().item()
    spread = (mass * (grid - mean).square()).sum().sqrt().item()
    assert samples.mean().item() == pytest.approx(mean, abs=0.1)
    assert samples.std().item() == pytest.approx(spread, rel=0.05)
    torch.testing.assert_close(loss, -log_prob)


def test_a_gaussian_reaches_the_published_best_gaussian() -> None:
    """On Moerland's toy a Gaussian comes down to 0.8675 nats, 1.222 above the truth."""
    fit = Fit("moerland-1d", "gaussian", 0, 400, 256, 20_000, 2, Model("gaussian", 1e-2))
    torch.manual_seed(0)
    model = build(fit)
    train(model, fit)
    scores = score(model.eval(), fit)
    assert 1.222 - 4 * scores["gap_error"] < scores["gap"] < 1.222 + 0.15


def test_draws_are_fresh_and_never_meet_the_test_draw() -> None:
    """No batch repeats, no test point is trained on, and a seed gives the same stream again."""
    fit = replace(FIT, target="two-modes-2d")  # two context dimensions: no chance coincidences
    stream, again = training_batches(fit), training_batches(fit)
    seen = torch.cat([next(stream)[0] for _ in range(120)])
    everything = torch.cat([seen, held_out(fit)[0].float()])
    assert len(everything.unique(dim=0)) == len(everything) == 120 * 32 + 200
    assert torch.equal(seen, torch.cat([next(again)[0] for _ in range(120)]))


def test_a_fit_is_repeatable_and_reloads(tmp_path: Path) -> None:
    """Equal fits give equal numbers; the saved parameters score the same; variants differ."""
    for folder in ("a", "b"):
        SUITE.run([FIT], tmp_path / folder)
    first, second = (read_cell(FIT, tmp_path / folder) for folder in ("a", "b"))
    assert first is not None and second is not None
    assert first.data["gap"] == second.data["gap"] and math.isfinite(first.data["gap"])
    assert score(load_model(first), FIT)["gap"] == first.data["gap"]
    variant = replace(FIT, validation=True)
    SUITE.run([variant], tmp_path / "a")
    other = read_cell(variant, tmp_path / "a")
    assert other is not None and other.data["true_nll"] != first.data["true_nll"]


def test_debug_preset_runs_whole(tmp_path: Path) -> None:
    """Every model on a target of each dimension: table and pictures."""
    record = json.loads(run(tmp_path, preset="debug").read_text())
    assert record["columns"] == ["target", "entropy", "s.e.", *MODELS]
    assert [row[0][-2:] for row in record["rows"][:3]] == ["1d", "2d", "6d"]
    assert all(len(row) == len(record["columns"]) for row in record["rows"])
    assert record["command"] == "vaerl experiment density-suite --preset debug"
    assert set(record["settings"]["models"]) == set(MODELS)
    assert len([*(tmp_path / "figures").glob("*.png")]) == 3


def test_several_seeds_and_the_scores_of_an_arm_stand_in_the_table(tmp_path: Path) -> None:
    """Two seeds give a mean with an interval; an arm adds its two scores beside the truth's."""
    path = run(tmp_path, "debug", seeds=[0, 1], targets=["arm-4"], models=["gaussian"])
    record = json.loads(path.read_text())
    labels = [row[0].split(" (")[0] for row in record["rows"]]
    assert labels[:3] == ["arm-4", "arm-4, error", "arm-4, mismatch"]
    assert all("±" in row[3] for row in record["rows"][:3])
    assert record["settings"]["seeds"] == [0, 1]
    assert len([*(tmp_path / "figures").glob("*.png")]) == 1


def test_standard_cvae_settings_are_the_same_for_every_target() -> None:
    """One setting a model: no target has its own; only k and the latents differ between cvaes."""
    for model in MODELS:
        assert len({repr(fit.settings) for fit in make_fits(models=[model])}) == 1
    cvaes = [m for m in MODELS.values() if m.density == "cvae"]
    shared = [{k: v for k, v in m.options.items() if k not in ("k", "latent_dims")} for m in cvaes]
    assert all(options == shared[0] for options in shared)
    assert len({m.learning_rate for m in cvaes}) == 1


def test_names_are_checked_in_one_line(tmp_path: Path) -> None:
    """Unknown target, model and preset, and a bad jobs: argument, value, what is legal."""
    cases = [
        ({"targets": ["rings"]}, "target: got 'rings', did you mean 'ring-2d'"),
        ({"models": ["mixtures"]}, "model: got 'mixtures', did you mean 'mixture'"),
        ({"preset": "ful"}, "preset: got 'ful', did you mean 'full'"),
        ({"jobs": 0}, "jobs: got 0"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            run(tmp_path / "never", **arguments)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "never").exists()
