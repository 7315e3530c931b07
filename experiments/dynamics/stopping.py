"""What does planning lose that takes less time: an early stop, or products in bfloat16?

Protocol. In each seed an ensemble of five cvaes, the default of the agents, is fitted to 4,000
random transitions of RandomPush, and every planner acts in one episode with its full budget in
float32, in one with `early_stop`, and in one with `matmul_precision="bf16"`: 64 plans × 8 particles
× 15 steps × 3 passes, one state at a time, each plan begun from the last. Start and pushes are the
same in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaerl.dynamics import DynamicsModel, FitOptions, fit
from vaerl.envs.noisy_pendulum import RandomPushEnv
from vaerl.experiments.dynamics.models import observe
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line, quantity
from vaerl.names import check_name
from vaerl.planning import Plan, Step, make_planner

PRESETS = ("full", "debug")
PLANNERS = ("cem", "icem", "mppi")
WAYS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "early stop": {"early_stop": True},
    "bf16": {"precision": "bf16"},
}
"""Settings of `_act`."""
SEEDS = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Episode(Cell):
    """A model, and every planner in it, each way."""

    seed: int
    preset: str
    transitions: int
    updates: int
    steps: int

    @property
    def name(self) -> str:
        """Such as push.s0."""
        return f"push.s{self.seed}"


def run(out: Path, preset: str = "full", seeds: list[int] | None = None, jobs: int = 1) -> Path:
    """Fit, plan and play the missing seeds, and print the table.

    Args:
        out: folder of the results; finished seeds found there are reused.
        preset: "full", or "debug", which runs in seconds.
        seeds: 0 to 5 by default ("debug": 0).
        jobs: processes, each with one thread.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    sizes = (100, 5, 2) if debug else (4000, 500, 100)
    cells = [Episode(seed, preset, *sizes) for seed in seeds or SEEDS[: 1 if debug else None]]
    command = command_line("early-stop", run, {"preset": preset, "seeds": seeds})
    return Experiment(measure, assemble).run(cells, Path(out), command=command, jobs=jobs)


class _Counted:
    """A model that counts its steps."""

    def __init__(self, model: DynamicsModel) -> None:
        self.model, self.steps = model, 0

    def begin(self, rows: int, generator: torch.Generator | None = None) -> _Counted:
        """The model of one roll-out, which counts here."""
        self.moved = self.model.begin(rows, generator)
        return self

    def step(
        self, states: torch.Tensor, actions: torch.Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """A step of the roll-out."""
        self.steps += 1
        return self.moved.step(states, actions, generator)


def measure(cell: Episode, desk: Desk) -> Measured:
    """Return and passes of every planner, each way."""
    env = RandomPushEnv()
    torch.manual_seed(cell.seed)
    model = DynamicsModel(
        3, 1, reward=env.reward, predicted=env.scored, complete=env.complete, density="cvae"
    )
    data = observe(env, cell.transitions, np.random.default_rng(cell.seed))
    options = FitOptions(steps=cell.updates, learning_rate=3e-3, check_every=cell.updates)
    fit(model, data, options, torch.Generator().manual_seed(cell.seed))
    found = {
        f"{name}, {way}": _act(env, model, name, cell, **settings)
        for name in PLANNERS
        for way, settings in WAYS.items()
    }
    return Measured({"found": found})


def _act(
    env: RandomPushEnv,
    model: DynamicsModel,
    name: str,
    cell: Episode,
    early_stop: bool = False,
    precision: str = "float32",
) -> list[float]:
    """Return of an episode, and passes a plan."""
    model.matmul_precision = precision
    model.changed()
    planner = make_planner(
        name, env.action_space, horizon=15, population=64, iterations=3, particles=8,
        early_stop=early_stop,
    )  # fmt: skip
    counted, plan, total = _Counted(model), None, 0.0
    rng, generator = np.random.default_rng(cell.seed), torch.Generator().manual_seed(cell.seed)
    state = env.start_states(1, rng)
    for _ in range(cell.steps):
        at = torch.as_tensor(state).float()
        made: Plan = planner.plan(counted, at, warm=plan, generator=generator)
        after = env.step_batch(state, made.actions[:, 0].double().numpy(), rng)
        state, plan, total = after.next_states, made, total + float(after.rewards[0])
    return [total, counted.steps / planner.horizon / cell.steps]


def assemble(results: Results) -> dict[str, Any]:
    """A row for each planner."""
    cells: Sequence[Mapping[str, Any]] = [r.data["found"] for r in results]
    rows = []
    for name in PLANNERS:
        full, early, coarse = (np.array([cell[f"{name}, {way}"] for cell in cells]) for way in WAYS)
        lost = [interval((full - way)[:, 0].tolist(), 1) for way in (early, coarse)]
        first = interval(full[:, 0].tolist(), 1)
        rows.append([name, first, lost[0], interval(early[:, 1].tolist(), 2), lost[1]])
    return {
        "title": "Planning in less time",
        "caption": (
            f"RandomPush, {quantity(len(cells), 'seed')}, one episode of "
            f"{quantity(results[0].cell['steps'], 'step')}; "
            "regret: difference in return to the full budget in float32, paired by seed; passes: "
            "of 3 at most. Mean ± half of the 95 % interval (Student's t)."
        ),
        "columns": ["planner", "return, full", "regret, early stop", "passes", "regret, bf16"],
        "rows": rows,
    }
