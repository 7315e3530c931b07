"""The demo: its record shows what its page says, and a small clone shows it again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaerl.agents import BC
from vaerl.data import Demonstrations, collect
from vaerl.envs.avoiding_expert import scripted_expert
from vaerl.envs.inverse_kinematics import Arm, Posterior
from vaerl.experiments.demo.scores import WITHIN, covered
from vaerl.experiments.demo.tasks import SIGMA, TARGET, TASKS
from vaerl.runs.evaluate import evaluate

ROOT = Path(__file__).parents[2]
WAYS = (0, 23)  # far left and far right


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    text = (ROOT / "experiments/demo/results/demo.json").read_text()
    return json.loads(text)["runs"]


def numbers(runs: list[dict[str, Any]], part: str, density: str, name: str) -> list[float]:
    return [run[name] for run in runs if (run["part"], run["density"]) == (part, density)]


def test_the_record_holds_every_policy_with_the_same_seeds_in_minutes(
    runs: list[dict[str, Any]],
) -> None:
    seeds = sorted({run["seed"] for run in runs})
    assert seeds == list(range(len(seeds))) and len(seeds) >= 5
    for part, task in TASKS.items():
        for density in task.densities:
            assert numbers(runs, part, density, "seed") == seeds
    for seed in seeds:
        assert sum(run["cpu_seconds"] for run in runs if run["seed"] == seed) < 400


def test_in_every_seed_the_cvae_arrives_in_many_ways_and_the_gaussian_does_not(
    runs: list[dict[str, Any]],
) -> None:
    assert max(numbers(runs, "clone", "gaussian", "success")) <= 0.05
    assert min(numbers(runs, "clone", "cvae", "success")) >= 0.85
    assert min(numbers(runs, "clone", "cvae", "entropy")) >= 0.88
    assert min(numbers(runs, "clone", "cvae", "ways")) >= 20


def test_in_every_seed_the_cvae_covers_more_postures_than_the_others(
    runs: list[dict[str, Any]],
) -> None:
    for rival in ("gaussian", "mixture"):
        for name, sign in (("covered", 1.0), ("nats", -1.0)):
            ours, theirs = (numbers(runs, "reach", d, name) for d in ("cvae", rival))
            assert min(sign * v for v in ours) > max(sign * v for v in theirs), (rival, name)


@pytest.fixture(scope="module")
def demonstrations() -> Demonstrations:
    """Two of the 24 ways in turn, 12 episodes each."""
    ways = itertools.cycle(WAYS)
    return collect(
        "vaerl/Avoiding-v0",
        lambda rng, env: scripted_expert(next(ways), rng, dead_zone=True),
        24,
        seed=0,
    )


def test_a_small_clone_keeps_both_ways_with_a_cvae_and_hits_the_post_with_a_gaussian(
    demonstrations: Demonstrations,
) -> None:
    options = TASKS["clone"].settings["agent_options"]
    found = {}
    for density in ("gaussian", "cvae"):
        agent = BC(density, "vaerl/Avoiding-v0", demonstrations, seed=0, device="cpu", **options)
        agent.learn(500)
        result = evaluate(agent, "vaerl/Avoiding-v0", episodes=40, seed=0)
        found[density] = result
    ends = np.array([trace[-1] for trace in found["gaussian"].traces])
    assert found["gaussian"].scores()["success_rate"] <= 0.1
    assert np.median(ends[:, 1]) < 0.0, "the first post stands at y = −.1"
    assert found["cvae"].scores()["success_rate"] >= 0.6
    assert set(WAYS) <= set(found["cvae"].goals.tolist())


def test_exact_draws_cover_the_exact_postures_and_one_bend_half_of_them() -> None:
    task = Posterior(Arm(4), TARGET, SIGMA)
    exact, others, drawn = np.split(task.sample(3000, np.random.default_rng(0)), 3)
    scaled = [x / task.arm.stds for x in (exact, others, drawn)]
    error = 3.0 * np.sqrt(2 * WITHIN * (1 - WITHIN) / 1000)
    assert covered(*scaled) == pytest.approx(WITHIN, abs=error + 0.01)
    above = np.where((task.arm.bend(drawn) == 0)[:, None], drawn, -drawn) / task.arm.stds
    assert 0.4 < covered(scaled[0], scaled[1], above) < 0.8
