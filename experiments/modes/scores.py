"""What one trained policy contributes to the table of `modes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from vaerl.disk import files, jsonio
from vaerl.envs.bandit import SCALE, bandit_metrics, modes_hit
from vaerl.envs.metrics import obstacle_success_rate, removal_success_rate
from vaerl.lab.records import read_record
from vaerl.runs import RunDirectory
from vaerl.runs.evaluate import evaluate
from vaerl.runs.train import load_run, read_evaluation

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


class Measured(NamedTuple):
    """Where the numbers of a run lie, and beside them what its picture shows."""

    numbers: dict[str, float]
    traces: Path
    """Positions ``(E, T, 2)``, NaN after the end of an episode, and the goals ``(E,)``."""


def measure(run: RunDirectory) -> Measured:
    """The numbers of a finished run; worked out once and kept in its folder as modes.json.

    Raises ValueError, one line that names the file, where that cannot be read.
    """
    path = run.path / "modes.json"
    record = read_record(path, ["numbers"])
    traces = run.path / "traces.safetensors"
    if record is None or not _readable(traces):
        record = {"numbers": _numbers(run, traces)}
        files.write_text(path, jsonio.dumps(record, indent=1) + "\n")
    numbers = record["numbers"]
    if not isinstance(numbers, dict) or not all(
        isinstance(numbers.get(key), int | float) for key in {*BASE, *numbers}
    ):
        raise ValueError(f"{path}: got no numbers of this experiment; delete it to make it again")
    return Measured(numbers, traces)


def _readable(path: Path) -> bool:
    try:
        return {"places", "goals"} <= set(load(path.read_bytes()))
    except (OSError, SafetensorError):
        return False


def _numbers(run: RunDirectory, traces: Path) -> dict[str, float]:
    evaluation = read_evaluation(run)
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
        numbers |= look_at_bandit(agent, 100 if debug else 10_000)
        _save_draws(agent, traces)
        return numbers
    seed = int(drawn["seed"])
    episodes = len(drawn["goals"]) if debug else TRACES
    seen = evaluate(agent, config.env, episodes=episodes, seed=seed, traces=episodes)
    _save_traces(seen.traces, seen.goals, traces)
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
    return numbers


def look_at_bandit(agent: Any, count: int = 10_000) -> dict[str, float]:
    """What the bandit's target, known exactly, says of a policy.

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


def _save_draws(agent: Any, path: Path) -> None:
    """Draws of the bandit's policy as episodes of one place."""
    value = agent.density_value(np.zeros((1, 1), dtype=np.float32))
    drawn = SCALE * value.sample((BANDIT_DRAWS,), torch.Generator().manual_seed(1))[:, 0].double()
    goals = modes_hit(drawn.numpy())
    _save_traces([place[None] for place in drawn.numpy()], goals, path)


def _save_traces(traces: Any, goals: np.ndarray, path: Path) -> None:
    longest = max(len(trace) for trace in traces)
    places = np.full((len(traces), longest, 2), np.nan, dtype=np.float32)
    for row, trace in zip(places, traces, strict=True):
        row[: len(trace)] = trace
    arrays = {"places": torch.from_numpy(places), "goals": torch.from_numpy(goals.astype(np.int64))}
    files.write_bytes(path, save(arrays))
