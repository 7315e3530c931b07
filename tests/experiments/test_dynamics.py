"""The dynamics experiment: its planners find what is known, its cells resume, its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.experiments.oracles import reference_samples
from vaerl.envs.bimodal_wind import BimodalWindEnv
from vaerl.envs.fork import ForkEnv
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.wet_chicken import WetChickenEnv
from vaerl.experiments.dynamics import experiment as dynamics
from vaerl.experiments.dynamics import planning, stopping
from vaerl.experiments.dynamics.episodes import record_episodes
from vaerl.experiments.dynamics.models import MODELS, Budget, learn, make_world, observe
from vaerl.experiments.dynamics.scores import law_scores, modes_of
from vaerl.experiments.dynamics.table import assemble
from vaerl.experiments.dynamics.tasks import TASKS, cells_one_hot
from vaerl.lab.cells import Result
from vaerl.planning.model import Step


class Reference:
    """The best that endless data could teach a kind of model: "true", "gaussian" or "mean"."""

    def __init__(self, env: KnownLawEnv, kind: str) -> None:
        self.env, self.kind, self.rng = env, kind, np.random.default_rng(0)

    def step(self, states: torch.Tensor, actions: torch.Tensor, generator: Any = None) -> Step:
        """Draw next states."""
        found = reference_samples(
            self.env, states.numpy(), actions.numpy(), self.kind, 1, self.rng
        )[0]
        return Step(torch.as_tensor(found).float())

    def check_rows(self, states: torch.Tensor, actions: torch.Tensor) -> None:
        """These tests give no others than fit."""


def seeded(seed: int = 0) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def test_planning_in_the_true_law_finds_the_best_and_a_gaussian_does_not() -> None:
    """Fork .2 against .00045; BimodalWind .575 against at most .16; Wet-Chicken's order."""
    true, gaussian = (Reference(ForkEnv(), kind) for kind in ("true", "gaussian"))
    assert planning.fork_return(true, seeded(), 500) == pytest.approx(0.2)  # type: ignore[arg-type]
    assert planning.fork_return(gaussian, seeded(), 500) < 0.01  # type: ignore[arg-type]
    true, gaussian = (Reference(BimodalWindEnv(), kind) for kind in ("true", "gaussian"))
    assert planning.wind_return(true, seeded(), 128) > 0.53
    assert planning.wind_return(gaussian, seeded(), 128) < 0.2
    small = {"points": 21, "draws": 16, "episodes": 200}
    worths = [
        planning.wet_chicken_return(Reference(WetChickenEnv(), kind), seeded(), **small)  # type: ignore[arg-type]
        for kind in ("true", "mean")
    ]
    assert worths[0] > -2.45 and worths[1] < worths[0] - 0.2


def test_scores_of_the_truth_and_of_the_mean() -> None:
    """A perfect model has energy 0, covers all, hits 1 % of nothing; the mean is all spurious."""
    env = ForkEnv()
    pairs = (np.zeros((50, 1)), np.ones(50, dtype=np.int64))
    found = {
        kind: law_scores(
            env,
            Reference(env, kind),  # type: ignore[arg-type]
            pairs,
            noise=0.02,
            radius=float("inf"),
            generator=seeded(),
        )
        for kind in ("true", "mean")
    }
    # The reference draws without the noise, so it is a little too narrow: fewer outside.
    assert abs(found["true"]["energy"]) < 0.03 and found["true"]["spurious"] < 0.02
    assert found["true"]["coverage"] > 0.9
    assert found["mean"]["spurious"] == 1.0 and found["mean"]["coverage"] == 0.0
    centres, weights = modes_of(env.transition_distribution([0.0], [0, 1]))
    assert weights.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    assert centres[1].flatten().tolist() == [2.0, 1.0, -1.0]


def test_noise_is_for_the_fit_alone() -> None:
    """It widens what is learned from; the transitions stay as they were observed."""
    world = make_world(ForkEnv(), MODELS["gaussian"])
    data = observe(ForkEnv(), 100, np.random.default_rng(0))
    report = learn(world, MODELS["gaussian"], data, Budget(100, 5, noise=0.1, copies=3), 0)
    assert report.steps == 5
    safe = data.next_states[data.actions == 0]
    assert torch.equal(safe, torch.full_like(safe, 2.0))  # what was observed is left as it was
    assert world.target_normaliser.scale.item() > 0.1


def test_episodes_keep_their_friction() -> None:
    """Rows of an episode follow one another: each starts where the last ended."""
    from vaerl.envs.noisy_pendulum import HiddenFrictionEnv

    data = record_episodes(HiddenFrictionEnv(), 3, 5, [0, 0])
    assert data.episodes is not None and data.episodes.tolist() == sorted([0, 1, 2] * 5)
    inner = data.episodes[1:] == data.episodes[:-1]
    assert torch.equal(data.states[1:][inner], data.next_states[:-1][inner])


def test_cells_one_hot() -> None:
    """Six coordinates, one indicator each."""
    seen = cells_one_hot(torch.tensor([[0.0, 6.0, 1.2, 3.0, 5.0, 3.0]]))
    assert seen.shape == (1, 42) and seen.sum() == 6.0
    assert seen[0].nonzero().flatten().tolist() == [0, 13, 15, 24, 33, 38]


def test_it_runs_resumes_and_draws(tmp_path: Path) -> None:
    """A second call fits nothing; the table has a row a measure and a column a model."""
    words: dict[str, Any] = {"preset": "debug", "tasks": ["fork"], "models": ["mean-only", "cvae"]}
    path = dynamics.run(tmp_path, **words)
    record = json.loads(path.read_text())
    assert record["columns"] == ["task", "measure", "truth", "goal", "mean-only", "cvae"]
    assert [row[1] for row in record["rows"][:2]] == [
        "regret of the choice, %",
        "distance of PIT from uniform",
    ]
    cells = sorted((tmp_path / "cells").glob("*.json"))
    before = [cell.stat().st_mtime_ns for cell in cells]
    dynamics.run(tmp_path, **words)
    assert [cell.stat().st_mtime_ns for cell in cells] == before and len(cells) == 2
    names = {figure.name for figure in (tmp_path / "figures").glob("*.png")}
    assert names == {"fork-laws.png", "fork-calibration.png", "fork-modes.png"}
    assert record["command"] == (
        "vaerl experiment dynamics --preset debug --tasks fork --models mean-only,cvae --seeds 0"
    )


def results(cells: list[dynamics.Fit], numbers: list[dict[str, Any]]) -> list[Result]:
    """Finished cells."""
    return [
        Result(Path(), cell.as_data(), {"numbers": found, "cpu_seconds": 1.0})
        for cell, found in zip(cells, numbers, strict=True)
    ]


def test_commands_follow_from_the_cells() -> None:
    """Tasks with the same models and seeds share a line; nothing is claimed that was not run."""
    cells = [
        *dynamics.make_cells("full", ["toy", "fork"], ["gaussian", "cvae"], [0, 1]),
        *dynamics.make_cells("full", ["toy"], ["flow"], [0]),
        *dynamics.make_cells("full", ["fork"], ["cvae"], [3], validation=True),
    ]
    prefix = "vaerl experiment dynamics"
    record = dynamics.table_of(results(cells, [{"nll": 0.0}] * len(cells)))
    assert record["command"].splitlines() == [
        f"{prefix} --tasks toy,fork --models gaussian,cvae --seeds 0,1",
        f"{prefix} --tasks toy --models flow --seeds 0",
        f"{prefix} --tasks fork --models cvae --seeds 3 --validation",
    ]


def test_the_table_shows_seeds_that_failed() -> None:
    """A measure that some seeds did not reach says how many did."""
    cells = dynamics.make_cells("full", ["pendulum"], ["cvae"], [0, 1, 2])
    numbers = [{"plan": 1000.0, "reached": None if c.seed else 1400.0} for c in cells]
    record = assemble(results(cells, numbers))
    rows = record["rows"]
    assert rows[0][-1] == "1000 ± 0" and rows[1][-1] == "1 of 3 seeds: 1400"
    assert record["settings"]["pendulum"]["seeds"] == {"cvae": [0, 1, 2]}


def test_unknown_names_get_the_nearest() -> None:
    """Tasks, models, presets; two models are for one task each."""
    with pytest.raises(ValueError, match="task: got 'wet-chiken', did you mean 'wet-chicken'"):
        dynamics.make_cells("full", ["wet-chiken"])
    with pytest.raises(ValueError, match="model: got 'cvea', did you mean 'cvae'"):
        dynamics.make_cells("full", None, ["cvea"])
    for model, task in (("cvae-episode", "hidden-friction"), ("cvae-latents-8", "acrobot")):
        assert {cell.task for cell in dynamics.make_cells("full", None, [model])} == {task}
    assert len(TASKS) == 10
    seeds = {cell.seed for cell in dynamics.make_cells("full", ["toy", "ghost-grid"], ["cvae"])}
    assert len(seeds) == 10


def test_early_stop_runs_whole(tmp_path: Path) -> None:
    """Every planner acts each way; passes are counted, of three at most."""
    record = json.loads(stopping.run(tmp_path, "debug").read_text())
    assert [row[0] for row in record["rows"]] == list(stopping.PLANNERS)
    assert all(1.0 <= float(row[3]) <= 3.0 for row in record["rows"])
