"""The scores of one trained policy for the table of `modes`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaerl.envs.bandit import SCALE, bandit_metrics, modes_hit
from vaerl.envs.metrics import obstacle_success_rate, removal_success_rate
from vaerl.runs import RunDirectory
from vaerl.runs.evaluate import evaluate
from vaerl.runs.train import load_run

GROUP = 5  # episodes of a group in DrAC's two tests
OBSTACLE_EPISODES = 500  # 100 groups
TRACES = 60  # episodes that a picture shows
BANDIT_DRAWS = 2000  # samples that a picture shows


BASE = (
    "num_modes",
    "goals",
    "score",
    "ceiling",
    "lost",
    "return",
    "best_return",
    "minutes",
)  # numbers of every run


def score(run: RunDirectory) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The numbers of a finished run, and what its picture shows.

    "places": positions ``(E, T, 2)``, NaN after the end of an episode; "goals" ``(E,)``.
    """
    evaluation = run.evaluation()
    assert evaluation is not None, run
    drawn, best = evaluation["stochastic"], evaluation["deterministic"]
    numbers = {
        "num_modes": drawn["num_modes"],
        "goals": drawn["goals_reached"],
        "score": drawn["multi_goal_score"],
        "ceiling": drawn["multi_goal_score_ceiling"],
        "lost": 1.0 - drawn["success_rate"],
        "return": drawn["return_mean"],
        "best_return": best["return_mean"],
        "minutes": evaluation["train_seconds"] / 60.0,
    }
    agent, config, _ = load_run(run.path)
    debug = len(drawn["goals"]) < 2 * GROUP
    if "Bandit" in config.env:
        return numbers | look_at_bandit(agent, 100 if debug else 10_000), _draws(agent)
    seed = int(drawn["seed"])
    episodes = len(drawn["goals"]) if debug else TRACES
    seen = evaluate(agent, config.env, episodes=episodes, seed=seed, traces=episodes)
    if "Maze" in config.env:
        goals, modes = drawn["goals"], int(drawn["num_modes"])
        blocked = evaluate(
            agent,
            config.env,
            episodes=len(goals) if debug else OBSTACLE_EPISODES,
            seed=seed,
            env_options={"obstacles": True},
            traces=0,
        )
        group = min(GROUP, len(goals))
        numbers["removal"] = removal_success_rate(goals, modes, modes // 2, group)
        numbers["obstacles"] = obstacle_success_rate(blocked.goals, modes, group)
    return numbers, _traces(seen.traces, seen.goals)


def look_at_bandit(agent: Any, count: int = 10_000) -> dict[str, float]:
    """Scores of a policy against the bandit's exact target.

    "modes" and "outside_99" of `count` samples, "entropy_lower" in nats of a scaled action, from
    8 paths a sample; the best policy has 40, .0102 and −.543.
    """
    value = agent.density_value(np.zeros((1, 1), dtype=np.float32))
    generator = torch.Generator().manual_seed(0)
    drawn = value.sample((count,), generator)[:, 0].double().numpy()
    scores = bandit_metrics(SCALE * drawn)
    entropy = value.entropy_bounds(8, 4000, generator)
    return {
        "modes": scores["modes"],
        "outside_99": scores["outside_99"],
        "entropy_lower": float(entropy.lower),
    }


def _draws(agent: Any) -> dict[str, Tensor]:
    """Draws of the bandit's policy as episodes of one place."""
    value = agent.density_value(np.zeros((1, 1), dtype=np.float32))
    drawn = SCALE * value.sample((BANDIT_DRAWS,), torch.Generator().manual_seed(1))[:, 0].double()
    return _traces([place[None] for place in drawn.numpy()], modes_hit(drawn.numpy()))


def _traces(traces: Any, goals: np.ndarray) -> dict[str, Tensor]:
    places = np.full((len(traces), max(map(len, traces)), 2), np.nan, dtype=np.float32)
    for row, trace in zip(places, traces, strict=True):
        row[: len(trace)] = trace
    return {"places": torch.from_numpy(places), "goals": torch.from_numpy(goals.astype(np.int64))}
