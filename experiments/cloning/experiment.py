"""Which density clones behaviour that has many ways, and at what price?

Protocol. Demonstrations of a task that is solved in several equally good ways are cloned by
`vaerl.agents.BC` with one density after another: same demonstrations, network in front of the
density, batch and learning rate, and as many updates as take the CPU time of the cvae's (`pace` in
`rows.py`). Executed actions, past observations and noise on them are those that served a row best
in trials (`own` in `tasks.py`). "act-z0" is the cvae of action chunking (Zhao et al. 2023), which
acts with its latent at zero; "replay" plays the next actions of one of the eight nearest
demonstrated moments. Flow matching takes 10 passes of its network a decision and diffusion 20.
Every policy draws its actions, without the decoder's noise where it has one. Then episodes count:
the share that succeeds, and the entropy over the ways of those that do, in units of log(number of
ways), beside the ceiling that as many episodes of a perfect policy reach. NLL: −log p of a
demonstrated chunk of other episodes, in nats a number, standardised; for a cvae the bound L_64.

Studies: "rows" compares the densities and "handwriting" does so on people's strokes;
"demonstrations" and "chunks" vary the number of demonstrations and the length of a chunk; "latency"
times a decision and an update, one after the other in turns.

Files: out/cells/, out/<study>.json (the table), out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import torch

from vaerl.agents.bc import BC, Windows
from vaerl.data import Demonstrations
from vaerl.densities.options import check_positive, check_seed
from vaerl.experiments.cloning import latency
from vaerl.experiments.cloning.figures import draw_figures
from vaerl.experiments.cloning.replay import Replay
from vaerl.experiments.cloning.rivals import register_rivals
from vaerl.experiments.cloning.rows import ROWS, AtZero
from vaerl.experiments.cloning.studies import STUDIES, Place
from vaerl.experiments.cloning.table import assemble
from vaerl.experiments.cloning.tasks import TASKS
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment
from vaerl.lab.table import command_line
from vaerl.lab.ticks import Ticks
from vaerl.names import check_name

PRESETS = ("full", "debug")
SHOWN = 60
"""Episodes of a cell whose paths are kept for the picture."""


@dataclass(frozen=True)
class Clone(Cell):
    """One policy, cloned and judged."""

    task: str
    row: str
    seed: int
    demonstrations: int
    chunk: int
    settings: Mapping[str, Any]
    updates: int
    episodes: int

    @property
    def name(self) -> str:
        """Such as avoiding-cvae-480-16-s0."""
        return f"{self.task}-{self.row}-{self.demonstrations}-{self.chunk}-s{self.seed}"

    @property
    def work(self) -> float:
        """Updates."""
        return float(self.updates)


def make_cell(place: Place, seed: int, debug: bool = False) -> Clone:
    """The cell of a place in a study."""
    task, row = TASKS[place.task], ROWS[place.row]
    settings = {**task.settings, **task.own.get(place.row, {})}
    chunk = place.chunk or settings["chunk"]
    settings |= {
        "chunk": chunk,
        "execute": max(1, chunk * settings["execute"] // settings["chunk"]),
    }
    return Clone(
        place.task,
        place.row,
        seed,
        24 if debug else place.demonstrations or task.demonstrations,
        chunk,
        settings,
        20 if debug else round(task.updates * row.pace),
        4 if debug else task.episodes,
    )


def run(
    out: Path,
    preset: str = "full",
    study: str = "rows",
    tasks: list[str] | None = None,
    policies: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
    table: bool = False,
) -> Path:
    """Clone and judge what is not finished, print the study's table, draw its picture.

    Args:
        out: folder of the results; finished cells found there are reused.
        preset: "full", or "debug", which runs in seconds.
        study: "rows", "handwriting", "demonstrations", "chunks" or "latency".
        tasks: avoiding, cube, handwriting; those of the study by default.
        policies: the rows; those of the study by default.
        seeds: those of the study by default.
        jobs: processes, each with one thread.
        table: work nothing out, only make the table and the picture again.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    check_name("study", study, (*STUDIES, "latency"))
    for name in tasks or ():
        check_name("task", name, TASKS)
    for name in policies or ():
        check_name("policy", name, ROWS)
    check_positive("jobs", jobs)
    given = {
        "preset": preset, "study": study, "tasks": tasks, "policies": policies, "seeds": seeds,
    }  # fmt: skip
    command = command_line("cloning", run, given)
    if study == "latency":
        timed = latency.timings(debug)
        clocks = Experiment(latency.measure, latency.assemble)
        return clocks.run(timed, Path(out), command=command, file="latency.json")
    places = [
        place
        for place in STUDIES[study].places
        if (not tasks or place.task in tasks) and (not policies or place.row in policies)
    ]
    picked = [check_seed("seeds", seed) for seed in seeds or ([0] if debug else [])]
    all_seeds = picked or range(max(place.seeds for place in places))
    wanted = (
        make_cell(place, seed, debug)
        for seed in all_seeds
        for place in places
        if picked or seed < place.seeds
    )
    cells = list({cell.name: cell for cell in wanted}.values())
    experiment = Experiment(measure, lambda found: assemble(study, found), draw_figures)
    known = [cell.as_data() for cell in cells]
    return experiment.run(
        cells,
        Path(out),
        command=command,
        jobs=jobs,
        only_table=table,
        others=lambda cell: cell in known,
        file=f"{study}.json",
    )


def measure(cell: Clone, desk: Desk) -> Measured:
    """Clone the demonstrations and judge the policy."""
    register_rivals()
    task, row = TASKS[cell.task], ROWS[cell.row]
    data = task.record(cell.demonstrations, cell.seed)
    start = process_time()
    policy: Any
    numbers: dict[str, float] = {}
    if not row.density:
        policy = Replay(data, int(cell.settings["execute"]), seed=cell.seed)
        numbers["fit_seconds"] = process_time() - start
    else:
        agent = fit(cell, data, desk)
        numbers["fit_seconds"] = process_time() - start
        policy = AtZero(agent) if row.latent_at_zero else agent
        numbers["parameters"] = float(sum(p.numel() for p in agent.policy.parameters()))
        if row.has_likelihood:
            numbers["nll"] = likelihood(agent, task.others(cell.demonstrations, cell.seed))
    start = process_time()
    judged = task.judge(policy, cell.episodes, cell.seed, desk.path.parent.parent)
    numbers["judge_seconds"] = process_time() - start
    return Measured({**numbers, **judged.numbers}, {"paths": torch.as_tensor(judged.paths[:SHOWN])})


def fit(cell: Clone, data: Demonstrations, desk: Desk) -> BC:
    """The trained agent."""
    row = ROWS[cell.row]
    settings = dict(cell.settings)
    network, density = (settings.pop(key, {}) for key in ("policy_kwargs", "density_kwargs"))
    agent = BC(
        row.density,
        data=data,
        seed=cell.seed,
        device="cpu",
        policy_kwargs={**network, "density_kwargs": {**row.options, **density}},
        **settings,
    )
    return agent.learn(cell.updates, callback=Ticks(desk.tick))


@torch.no_grad()
def likelihood(agent: BC, data: Demonstrations, rows: int = 2048) -> float:
    """−log p of demonstrated chunks, in nats a number; for a cvae the bound L_64."""
    windows = Windows(data, agent.policy, agent.device, agent.stride)
    index = torch.linspace(0, len(windows) - 1, min(rows, len(windows))).long()
    observations, events = windows.rows(index)
    generator = torch.Generator().manual_seed(0)
    value = agent.policy.action_density(observations)
    lower = value.log_prob_bounds(events, 64, generator=generator).lower
    return -float(lower.mean()) / events.shape[1]
