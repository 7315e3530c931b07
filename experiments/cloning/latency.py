"""What a decision and an update cost, density against density, timed in turns in one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from vaerl.agents.bc import BC
from vaerl.experiments.cloning.rivals import register_rivals
from vaerl.experiments.cloning.rows import ROWS
from vaerl.experiments.cloning.tasks import TASKS
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Results

CHUNKS = (1, 8, 16, 50)
"""Lengths of the chunks, of two actions a step."""
REFERENCES = ("flow-matching", "diffusion")


@dataclass(frozen=True)
class Timing(Cell):
    """All rows at chunks of one length."""

    chunk: int
    turns: int
    decisions: int
    updates: int

    @property
    def name(self) -> str:
        """Such as latency-16."""
        return f"latency-{self.chunk}"

    @property
    def work(self) -> float:
        """Turns."""
        return float(self.turns)


def timings(debug: bool) -> list[Timing]:
    """The cells of the study."""
    return [Timing(1, 1, 2, 2)] if debug else [Timing(chunk, 10, 20, 10) for chunk in CHUNKS]


class _Clock(BaseCallback):
    """The seconds of every update."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def _on_training_start(self) -> None:
        self.last = perf_counter()

    def _on_step(self) -> bool:
        now = perf_counter()
        self.seconds.append(now - self.last)
        self.last = now
        return True


def measure(cell: Timing, desk: Desk) -> Measured:
    """Median milliseconds of a decision for one observation and of an update, by row."""
    register_rivals()
    task = TASKS["avoiding"]
    data = task.record(24, 0)
    settings = {**task.settings, "chunk": cell.chunk, "execute": 1, "validation": 0.0}
    agents = {
        name: BC(
            row.density,
            data=data,
            seed=0,
            device="cpu",
            policy_kwargs={"density_kwargs": dict(row.options)},
            **settings,
        )
        for name, row in ROWS.items()
        if row.density
    }
    clocks = {name: _Clock() for name in agents}
    decisions: dict[str, list[float]] = {name: [] for name in agents}
    observation = np.asarray(data[0].observations)[0]
    for turn in range(cell.turns):
        for name, agent in agents.items():
            agent.learn(cell.updates, callback=clocks[name], reset_num_timesteps=turn == 0)
            for _ in range(cell.decisions):
                start = perf_counter()
                agent.predict(observation)  # without a state: begins an episode and decides
                decisions[name].append(perf_counter() - start)
        desk.tick(turn + 1)
    return Measured(
        {
            "decision": {name: 1e3 * median(own) for name, own in decisions.items()},
            "update": {name: 1e3 * median(own.seconds) for name, own in clocks.items()},
        }
    )


def assemble(results: Results) -> dict[str, Any]:
    """The table: milliseconds, and the shares of the cvae's in those of the rivals."""
    rows = []
    data: dict[str, Mapping[str, Any]] = {}
    for result in sorted(results, key=lambda r: r.cell["chunk"]):
        decision, update = result.data["decision"], result.data["update"]
        chunk = result.cell["chunk"]
        data[str(chunk)] = {"decision": decision, "update": update}
        for name in decision:
            rows.append(
                [
                    str(2 * chunk),
                    name,
                    f"{decision[name]:.2f}",
                    *(f"{decision[name] / decision[other]:.2f}" for other in REFERENCES),
                    f"{update[name]:.2f}",
                    f"{update[name] / update[REFERENCES[0]]:.2f}",
                ]
            )
    return {
        "title": "Cost of a decision and of an update",
        "caption": (
            "Medians of one process on one thread, all rows in turns; a decision is for one "
            "observation, an update takes 128 chunks."
        ),
        "columns": [
            "numbers in a chunk", "policy", "decision, ms",
            *(f"÷ {name}" for name in REFERENCES), "update, ms", f"÷ {REFERENCES[0]} ",
        ],
        "rows": rows,
        "data": data,
    }  # fmt: skip
