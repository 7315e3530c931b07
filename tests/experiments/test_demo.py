"""The demo: a small clone shows what its page says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vaerl.agents import BC
from vaerl.data import Demonstrations, collect
from vaerl.envs.avoiding_expert import scripted_expert
from vaerl.envs.inverse_kinematics import Arm, Posterior
from vaerl.experiments.demo.scores import WITHIN, covered
from vaerl.experiments.demo.tasks import SIGMA, TARGET, TASKS
from vaerl.runs.evaluate import evaluate

WAYS = (0, 23)  # far left and far right


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
