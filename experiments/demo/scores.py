"""What a trained policy contributes to the demo: numbers, and arrays for its pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from vaerl.envs.inverse_kinematics import SCALE, Arm, Posterior
from vaerl.envs.metrics import entropy_ceiling
from vaerl.experiments.demo.tasks import SIGMA, TARGET
from vaerl.runs import RunDirectory
from vaerl.runs.evaluate import evaluate
from vaerl.runs.train import load_run

SHOWN = 96  # paths, or arms, in a picture
POSTURES = 2000
WITHIN = 0.95  # share of exact postures that exact draws cover


def score_clone(run: RunDirectory) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Success and entropy over the ways of a finished run, the shares of the ways, and its paths.

    "places": positions ``(E, T, 2)``, NaN after the end of an episode; "goals": of all episodes of
    the evaluation, those of the places first.
    """
    evaluation = run.evaluation()
    assert evaluation is not None, run
    drawn = evaluation["stochastic"]
    modes, episodes = int(drawn["num_modes"]), len(drawn["goals"])
    numbers = {
        "success": drawn["success_rate"],
        "entropy": drawn["mode_entropy"],
        "ways": drawn["goals_reached"],
        "entropy_ceiling": entropy_ceiling(modes, episodes).mean,
    }
    agent, config, _ = load_run(run.path)
    shown = min(SHOWN, episodes)
    seen = evaluate(agent, config.env, episodes=shown, seed=int(drawn["seed"]), traces=shown)
    return numbers, {
        **pack(seen.traces, seen.goals),
        "all_goals": torch.tensor(drawn["goals"]),
    }


def score_reach(run: RunDirectory) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The scores of a finished run's policy at the target, and some of its postures."""
    agent, _, _ = load_run(run.path)
    numbers, x = compare(agent, Posterior(Arm(4), TARGET, SIGMA))
    return numbers, {"postures": torch.from_numpy(x[: 2 * SHOWN].copy())}


def compare(agent: Any, task: Posterior) -> tuple[dict[str, float], NDArray[np.float64]]:
    """The distance of a policy from the posterior of one target, and postures that it draws.

    "nats" is an upper bound on KL(policy ‖ posterior), exact for densities that are; "covered" the
    share of exact postures with a draw nearby, where exact draws cover `WITHIN`; "hits" the share
    of draws whose tip is at the target.
    """
    value = agent.density_value(task.target[None].astype(np.float32))
    generator = torch.Generator().manual_seed(0)
    actions = value.sample((POSTURES,), generator)[:, 0].double().numpy()
    x = SCALE * task.arm.stds * actions
    entropy = float(value.entropy_bounds(64, POSTURES, generator).lower)
    entropy += float(np.log(SCALE * task.arm.stds).sum())  # of x, not of a
    found = task.scores(x)
    exact = task.sample(2 * POSTURES, np.random.default_rng(1)) / task.arm.stds
    reach = 3.0 * task.sigma
    numbers = {
        "nats": -entropy - float(task.log_prob(x).mean()),
        "covered": covered(exact[:POSTURES], exact[POSTURES:], x / task.arm.stds),
        "hits": float((task.miss(x) <= reach).mean()),
        "hits_ceiling": float((task.miss(exact * task.arm.stds) <= reach).mean()),
        **{name: found[name] for name in ("error", "error_ceiling", "above")},
        "mismatch": found["mismatch"],
        "mismatch_floor": found["mismatch_floor"],
    }
    return numbers, x


def covered(
    exact: NDArray[np.float64], others: NDArray[np.float64], drawn: NDArray[np.float64]
) -> float:
    """Share of `exact` that has one of `drawn` nearby.

    Nearby is the distance within which `WITHIN` of them have one of `others`, which are exact too.
    All three are (n, D).

    >>> line = np.linspace(0.0, 1.0, 101)[:, None]
    >>> covered(line, line + 0.001, line[:61])
    0.6
    """
    reference, _ = cKDTree(others).query(exact)
    distance, _ = cKDTree(drawn).query(exact)
    return round(float((distance <= np.quantile(reference, WITHIN)).mean()), 2)


def pack(traces: Any, goals: Any) -> dict[str, Tensor]:
    """Paths of unequal length as one array "places", with their "goals"."""
    places = np.full((len(traces), max(map(len, traces)), 2), np.nan, dtype=np.float32)
    for row, trace in zip(places, traces, strict=True):
        row[: len(trace)] = trace
    return {"places": torch.from_numpy(places), "goals": torch.tensor([int(g) for g in goals])}
