"""Which density learns best from noisy play with rewards, and by which agent?

Protocol. OGBench's single cube; 100,000 transitions of its oracle, which puts the cube in one place
after another with noise (`task.py`; one place in five is the goal), with a reward of −1 a step
until the cube is at the goal. {IQL, IDQL, PLAS, BC} × densities × seeds, with the same updates,
batch, learning rate and widths (`rows.py`), one thread a run. Then 50 episodes of OGBench's own
task count: success within 200 steps. Every policy draws its actions, without the decoder's noise.

Files: out/play/ (the data), out/cells/, out/results.json (the table).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from vaerl.agents import agent_class
from vaerl.densities.options import check_positive
from vaerl.experiments.offline.rows import ROWS
from vaerl.experiments.offline.table import assemble
from vaerl.experiments.offline.task import CubeToGoal, play_data
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment
from vaerl.lab.table import command_line
from vaerl.lab.ticks import Ticks
from vaerl.names import check_name

PRESETS = ("full", "debug")
TRANSITIONS = 100_000
UPDATES = 8_000
EPISODES = 50
DATA_SEED = 0


@dataclass(frozen=True)
class Training(Cell):
    """One policy, trained and judged."""

    row: str
    agent: str
    density: str
    settings: Mapping[str, Any]
    seed: int
    transitions: int
    updates: int
    episodes: int

    @property
    def name(self) -> str:
        """Such as iql-cvae-s0."""
        return f"{self.row}-s{self.seed}"

    @property
    def work(self) -> float:
        """Updates."""
        return float(self.updates)


def make_cell(name: str, seed: int, debug: bool = False) -> Training:
    """The cell of a row."""
    row = ROWS[name]
    sizes = (200, 20, 1) if debug else (TRANSITIONS, UPDATES, EPISODES)
    return Training(name, row.agent, row.density, row.settings, seed, *sizes)


def run(
    out: Path,
    preset: str = "full",
    policies: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
    table: bool = False,
) -> Path:
    """Train and judge what is not finished, print the table of all finished rows.

    Args:
        out: folder of data and results; what is finished there is reused.
        preset: "full", or "debug", which runs in seconds.
        policies: rows such as iql-cvae; all by default.
        seeds: 0, 1 and 2 by default.
        jobs: processes, each with one thread.
        table: work nothing out, only make the table again.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    for name in policies or ():
        check_name("policy", name, ROWS)
    check_positive("jobs", jobs)
    cells = [
        make_cell(name, seed, debug)
        for seed in seeds or ([0] if debug else [0, 1, 2])
        for name in policies or ROWS
    ]
    if not table:  # before several processes ask for it
        play_data(Path(out) / "play", cells[0].transitions, DATA_SEED)
    known = [cell.as_data() for cell in cells]
    given = {"preset": preset, "policies": policies, "seeds": seeds}
    return Experiment(partial(measure, Path(out)), assemble).run(
        cells,
        Path(out),
        command=command_line("offline", run, given),
        jobs=jobs,
        only_table=table,
        others=lambda cell: cell in known,
    )


def measure(out: Path, cell: Training, desk: Desk) -> Measured:
    """Train one agent on the data and judge it."""
    data = play_data(out / "play", cell.transitions, DATA_SEED)
    start = process_time()
    agent = agent_class(cell.agent)(
        cell.density, data=data, seed=cell.seed, device="cpu", **cell.settings
    )
    agent.learn(cell.updates, callback=Ticks(desk.tick))
    fitted = process_time()
    success, steps = judge(agent, cell.episodes, cell.seed)
    return Measured(
        {
            "success": success,
            "steps": steps,
            "fit_seconds": fitted - start,
            "judge_seconds": process_time() - fitted,
            "transitions": data.steps,
        }
    )


def judge(agent: Any, episodes: int, seed: int) -> tuple[float, float]:
    """Share of successes and mean number of steps."""
    env, successes, taken = CubeToGoal(), 0, 0
    agent.set_random_seed(seed)
    for episode in range(episodes):
        words = np.random.SeedSequence((1, seed, episode)).generate_state(1)
        observation, _ = env.reset(seed=int(words[0]))
        state, over = None, False
        start = np.ones(1, bool)
        while not over:
            actions, state = agent.predict(observation[None], state, start)
            observation, _, terminated, truncated, _ = env.step(actions[0])
            start = np.zeros(1, bool)
            over = terminated or truncated
            taken += 1
        successes += terminated
    return successes / episodes, taken / episodes
