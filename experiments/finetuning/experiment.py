"""From cloned to better: how much does reward improve a clone, and what keeps its ways?

Protocol. A policy is cloned from 96 demonstrations of Avoiding, four of each of its 24 ways, and
PPO goes on from it with reward 1 at success only; frozen codes, 16 copies of the environment.
Starts: "late", a clone with the settings that are good on this task; "early", one that was trained
briefly and sees one observation. Rows of a start share the clone of a seed: the clone itself, PPO
alone, PPO with a weight on the divergence from the clone (`clone_coef`), PPO with a weight on the
information of its codes (`code_coef`). From the start "single", which acts step by step, SAC goes
on with the demonstrations in half of every batch. After training, 480 episodes act at a drawn
latent without the decoder's noise. Reported: success; entropy over the ways of successful episodes;
the share of the clone's entropy that is kept; CPU seconds of training, without the clone's own.

Files: out/cells/, out/clones/ (a checkpoint a start, density and seed), out/results.json,
out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

import gymnasium
import numpy as np

from vaerl.agents import BC, PPO, SAC
from vaerl.checkpoint import load_checkpoint, save_checkpoint
from vaerl.checkpoint.save import list_checkpoints
from vaerl.data import Demonstrations, Episode
from vaerl.envs.avoiding import NUM_MODES
from vaerl.envs.avoiding_expert import Demonstration, record_demonstrations
from vaerl.envs.metrics import entropy_ceiling
from vaerl.experiments.finetuning.figures import draw_figures
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.lab.ticks import Ticks
from vaerl.names import check_name
from vaerl.runs.evaluate import EvalResult, evaluate
from vaerl.runs.vec import make_vec

ENV = "vaerl/Avoiding-v0"
SEEDS = (0, 1, 2, 3, 4)
EPISODES, COPIES = 480, 120
PER_MODE = 4
STARTS: Mapping[str, Mapping[str, Any]] = {
    "late": {
        "steps": 4000,
        "chunk": 16,
        "execute": 8,
        "history": 4,
        "observation_noise": 0.02,
        "policy_kwargs": {"sigma_floor": 0.45},
    },
    "early": {"steps": 1500, "chunk": 8, "execute": 8, "history": 1, "observation_noise": 0.0},
    "single": {"steps": 1500, "chunk": 1, "history": 1},
}
_PPO: Mapping[str, Any] = {"policy_kwargs": {"num_codes": 64}, "recognition_steps": 0}
AGENTS: Mapping[str, Mapping[str, Any]] = {
    "clone": {},
    "ppo": _PPO,
    "ppo+clone": {**_PPO, "clone_coef": 0.1},
    "ppo+codes": {**_PPO, "code_coef": 0.1},
    "sac": {"learning_starts": 500, "buffer_size": 100_000, "ent_coef": 0.01},
}
"""Options beside those of `from_clone`; acting needs no recognition network."""
CHUNKED = ("clone", "ppo", "ppo+clone", "ppo+codes")
OF_START = {"late": CHUNKED, "early": CHUNKED, "single": ("clone", "sac")}
DECISIONS = {"ppo": 20_480, "sac": 5_000}
DEBUG_STEPS, DEBUG_DECISIONS, DEBUG_EPISODES = 4, 64, 4
PRESETS = ("full", "debug")


@dataclass(frozen=True)
class Row(Cell):
    """One agent: the clone of a start, a density and a seed, or PPO from it."""

    start: str
    density: str
    agent: str
    seed: int
    cloning: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    decisions: int = 0
    episodes: int = EPISODES

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.start}-{self.density}-{self.agent}-s{self.seed}"

    @property
    def work(self) -> float:
        """Decisions, of which a clone takes none."""
        return float(max(1, self.decisions))


def make_rows(
    preset: str = "full",
    starts: Sequence[str] | None = None,
    densities: Sequence[str] | None = None,
    agents: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Row]:
    """The cells, seeds outermost.

    Raises:
        ValueError: an unknown preset, start or agent, or an illegal seed.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    for name in starts or ():
        check_name("start", name, STARTS)
    for name in agents or ():
        check_name("agent", name, AGENTS)
    return [
        make_row(start, density, agent, seed, debug)
        for seed in seeds or SEEDS[: 1 if debug else None]
        for start in starts or ("late", "early")[: 1 if debug else None]
        for density in densities or ("cvae",)
        for agent in OF_START[start]
        if agents is None or agent in agents
    ]


def make_row(start: str, density: str, agent: str, seed: int, debug: bool) -> Row:
    """One cell."""
    cloning, options = dict(STARTS[start]), dict(AGENTS[agent])
    decisions = DECISIONS.get(agent.partition("+")[0], 0)
    if not debug:
        return Row(start, density, agent, seed, cloning, options, decisions)
    cloning["steps"] = DEBUG_STEPS
    options |= {"learning_starts": 8} if agent == "sac" else {"n_steps": 4} if options else {}
    decisions = min(decisions, DEBUG_DECISIONS)
    return Row(start, density, agent, seed, cloning, options, decisions, DEBUG_EPISODES)


def run(
    out: Path,
    preset: str = "full",
    starts: list[str] | None = None,
    densities: list[str] | None = None,
    agents: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
    table: bool = False,
) -> Path:
    """Clone, go on with PPO where that is not done, print the table of all finished cells.

    Args:
        out: folder of the results.
        preset: "full", or "debug", which runs in seconds.
        starts: late and early (by default), single.
        densities: of the clone; cvae by default.
        agents: clone, ppo, ppo+clone, ppo+codes, and sac from the start single; all by default.
        seeds: 0 to 4 by default; 0 with the preset "debug".
        jobs: processes, each with one thread.
        table: work nothing out, only make the table and the picture again.
    """
    given = {"preset": preset, "starts": starts, "densities": densities, "agents": agents}
    rows = make_rows(preset, starts, densities, agents, seeds)
    experiment = Experiment(measure, assemble, draw_figures)
    return experiment.run(
        rows,
        out,
        command=command_line("finetuning", run, {**given, "seeds": seeds}),
        jobs=jobs,
        only_table=table,
        others=lambda cell: True,
    )


def demonstrations(seed: int) -> Demonstrations:
    """Four of each way."""
    env = gymnasium.make(ENV)
    episodes = [
        Episode(d.observations, d.actions, _rewards(d), terminated=True)
        for d in record_demonstrations(PER_MODE, seed=seed)
    ]
    return Demonstrations(episodes, env.observation_space, env.action_space, env=ENV)


def _rewards(demonstration: Demonstration) -> np.ndarray:
    """1 at success."""
    rewards = np.zeros(len(demonstration.actions))
    rewards[-1] = demonstration.success
    return rewards


def cloned(row: Row, out: Path) -> BC:
    """The clone of a start, a density and a seed; fitted once."""
    folder = out / "clones" / f"{row.start}-{row.density}-s{row.seed}"
    if found := list_checkpoints(folder):
        return load_checkpoint(found[0])  # type: ignore[return-value]
    options = dict(row.cloning)
    steps = options.pop("steps")
    agent = BC(row.density, ENV, demonstrations(row.seed), seed=row.seed, device="cpu", **options)
    save_checkpoint(agent.learn(steps), folder)
    return agent


def measure(row: Row, desk: Desk) -> Measured:
    """Success and entropy after training, CPU seconds of the clone or of PPO."""
    start = process_time()
    agent: Any = cloned(row, desk.path.parent.parent)
    if row.decisions:
        start = process_time()
        agent = improved(agent, row)
        agent.learn(row.decisions, callback=Ticks(desk.tick))
    seconds = process_time() - start
    result = evaluate(
        agent, ENV, episodes=row.episodes, seed=1000 + row.seed, copies=min(COPIES, row.episodes)
    )
    return Measured({"training_seconds": round(seconds, 1), **scores(result)})


def improved(clone: BC, row: Row) -> Any:
    """The agent that goes on from the clone, before its first step."""
    options = {"seed": row.seed, "device": "cpu", **row.options}
    if row.agent == "sac":
        env = make_vec(ENV, 1, seed=row.seed)
        return SAC.from_clone(clone, env, data=demonstrations(row.seed), **options)
    return PPO.from_clone(clone, make_vec(ENV, 16, seed=row.seed), **options)


def scores(result: EvalResult) -> dict[str, float]:
    """What the table holds of an evaluation."""
    found = result.scores()
    return {
        "success": found["success_rate"],
        "entropy": found["mode_entropy"],
        "ways": found["goals_reached"],
    }


def assemble(results: Results) -> dict[str, Any]:
    """One row a start, density and agent; intervals over seeds."""
    cells = {
        (r.cell["start"], r.cell["density"], r.cell["agent"], int(r.cell["seed"])): r.data
        for r in results
    }
    order = {name: place for place, name in enumerate((*STARTS, *AGENTS))}
    groups = sorted({key[:3] for key in cells}, key=lambda g: (order[g[0]], g[1], order[g[2]]))
    rows = []
    for group in groups:
        own = {key[3]: data for key, data in cells.items() if key[:3] == group}
        clones = {seed: cells.get((*group[:2], "clone", seed)) for seed in own}
        kept = [
            data["entropy"] / clone["entropy"]
            for seed, data in own.items()
            if (clone := clones[seed]) is not None and clone["entropy"]
        ]
        rows.append(
            [
                *group,
                str(len(own)),
                interval([d["success"] for d in own.values()], 3),
                interval([d["entropy"] for d in own.values()], 3),
                interval(kept, 3) if kept else "",
                f"{min(d['ways'] for d in own.values()):.0f}",
                f"{mean(d['training_seconds'] for d in own.values()):.0f}",
            ]
        )
    ceiling = entropy_ceiling(NUM_MODES, max(int(r.cell["episodes"]) for r in results)).mean
    return {
        "title": "From cloned to better on Avoiding",
        "caption": (
            "Mean with the 95 % interval (Student's t) over seeds; drawn latents without the "
            f"decoder's noise; a perfect policy's entropy is {ceiling:.3f}."
        ),
        "columns": [
            *("start", "density", "agent", "seeds", "success", "entropy"),
            *("share of the clone's entropy", "fewest ways of 24", "CPU s"),
        ],
        "rows": rows,
        "data": {
            f"{' '.join(key[:3])} seed {key[3]}": [data["success"], data["entropy"]]
            for key, data in sorted(cells.items())
        },
    }
