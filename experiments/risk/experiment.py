"""Does a plan for the worst outcomes need a model that knows them?

Protocol. `vaerl/CurrencyExchange-v0` and `vaerl/HIVTreatment-v0`, the two public tasks with risk of
Rigter et al. 2023. {gaussian ensemble, mixture, cvae, cvae ensemble} × seeds learn from the same
random transitions, with the networks, learning rates and fit of `vaerl experiment dynamics`, and
predict what is random; rewards and ends are known. Of the treatment random actions show too little:
there episodes planned in the model for the mean join its data, and it is fitted anew, four times.
iCEM plans in each of them and in the true simulator, for the mean return and for CVaR_.1, with one
budget a task (`TASKS`).
`vaerl.agents.MBPO` learns a Gaussian policy with each of them, for the mean return. Reported: mean
and CVaR_.1 of the return of whole episodes, and the NLL on new transitions. Next states carry noise
N(0, .05²), in learning and scoring: the exchange's law has atoms, the treatment's lies on a
surface.

Files: out/cells/, out/results.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaerl.dynamics import Transitions
from vaerl.experiments.dynamics.models import MODELS, Model, blurred, learn, make_world
from vaerl.experiments.dynamics.scores import nll
from vaerl.experiments.risk.playing import planned, play, policy_of, walk, with_episodes
from vaerl.experiments.risk.tasks import TASKS, Task, debug_task
from vaerl.lab.cells import Cell, Desk, Measured, Result
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.record import plain
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.names import check_name
from vaerl.planning import SimulatorModel
from vaerl.planning.objectives import cvar

PRESETS = ("full", "debug")
WAYS = ("mpc", "mbpo")
HEADS = ("gaussian-x5", "mixture", "cvae", "cvae-x5")
TRUTH = "truth"
OBJECTIVES = ("mean", "cvar")
SEEDS = (0, 1, 2, 3, 4)
ALPHA = 0.1
TEST_SEED = 7_919


@dataclass(frozen=True)
class Run(Cell):
    """A task, a way to act, a model and a seed."""

    task: str
    way: str
    model: str
    seed: int
    preset: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Such as currency.mpc.cvae.s0."""
        return f"{self.task}.{self.way}.{self.model}.s{self.seed}"


def make_cells(
    preset: str = "full",
    tasks: Sequence[str] | None = None,
    ways: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Run]:
    """The cells in the order in which they run; the truth is planned in but not learned from.

    Raises:
        ValueError: an unknown preset, task, way or model.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    for name, given, legal in (
        ("task", tasks, tuple(TASKS)),
        ("way", ways, WAYS),
        ("model", models, (TRUTH, *HEADS)),
    ):
        for value in given or ():
            check_name(name, value, legal)
    chosen = models or ((TRUTH, "gaussian-x5", "cvae") if debug else (TRUTH, *HEADS))
    return [
        Run(task, way, model, seed, preset, _settings(task, way, model, debug))
        for seed in seeds or SEEDS[: 1 if debug else None]
        for task in tasks or TASKS
        for way in ways or WAYS
        for model in chosen
        if model != TRUTH or way == "mpc"
    ]


def run(
    out: Path,
    preset: str = "full",
    tasks: list[str] | None = None,
    ways: list[str] | None = None,
    models: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
    table: bool = False,
) -> Path:
    """Compute the missing cells and print the table of all that are finished.

    Args:
        out: folder of the results; finished cells found there are reused.
        preset: "full", or "debug", which runs in seconds.
        tasks: currency, hiv; both by default.
        ways: mpc, mbpo; both by default.
        models: truth, gaussian-x5, mixture, cvae, cvae-x5; all by default.
        seeds: 0 to 4 by default ("debug": 0).
        jobs: processes, each with one thread.
        table: compute nothing, only make the table again.
    """
    return Experiment(measure, assemble).run(
        make_cells(preset, tasks, ways, models, seeds),
        Path(out),
        command="vaerl experiment risk",
        jobs=jobs,
        only_table=table,
        others=lambda cell: cell["preset"] == preset,
    )


def measure(cell: Run, desk: Desk) -> Measured:
    """Learn a model, act with it for each objective, and play whole episodes."""
    task = _task(cell.task, cell.preset == "debug")
    torch.manual_seed(cell.seed)
    if cell.way == "mbpo":
        policy = policy_of(task, MODELS[cell.model], cell.seed)
        return Measured({"returns": {"mean": _played(task, policy, cell.seed, task.tested)}})
    env, numbers = task.make_env(), {}
    model: Any = SimulatorModel(env)
    if cell.model != TRUTH:
        model, numbers["nll"] = _learned(task, MODELS[cell.model], cell.seed)
    elif task.law is not None:
        numbers["nll"] = -float(
            np.mean(task.law(env, _test_data(task, cell.seed), task.budget.noise))
        )
    returns = {}
    for objective in OBJECTIVES:
        generator = torch.Generator().manual_seed(cell.seed)
        act = planned(env, model, task.planner(objective, ALPHA), generator)
        returns[objective] = _played(task, act, cell.seed, task.episodes)
    return Measured({"returns": returns, **numbers})


def _learned(task: Task, model: Model, seed: int) -> tuple[Any, float]:
    """A fitted model and its NLL on new random transitions."""
    env = task.make_env()
    data = task.transitions(env, task.budget.transitions, np.random.default_rng(seed))
    world = _fitted(task, env, model, data, seed)
    for number in range(1, task.rounds + 1):
        generator = torch.Generator().manual_seed(seed)
        act = planned(env, world, task.planner("mean", ALPHA), generator)
        walked = walk(env, act, task.episodes, task.steps, seed + 1000 * number)
        data = with_episodes(data, walked)
        world = _fitted(task, env, model, data, seed)
    return world, nll(world, _test_data(task, seed))


def _fitted(task: Task, env: Any, model: Model, data: Transitions, seed: int) -> Any:
    world = make_world(env, model, reward=env.reward)
    learn(world, model, data, task.budget, seed)
    return world


def _test_data(task: Task, seed: int) -> Any:
    env, rng = task.make_env(), np.random.default_rng([TEST_SEED, seed])
    data = task.transitions(env, task.test_rows, rng)
    return blurred(data, task.budget.noise, torch.Generator().manual_seed(seed))


def _played(task: Task, act: Any, seed: int, episodes: int) -> list[float]:
    return play(task.make_env(), act, episodes, task.steps, TEST_SEED + seed).tolist()


def assemble(results: Results) -> dict[str, Any]:
    """A row for each task, way, objective and model."""
    groups: dict[tuple[str, str, str, str], list[Result]] = {}
    for r in sorted(results, key=lambda r: int(r.cell["seed"])):
        for objective in r.data["returns"]:
            key = (r.cell["task"], r.cell["way"], objective, r.cell["model"])
            groups.setdefault(key, []).append(r)
    rows = []
    for key in sorted(groups, key=_place):
        own = [r.data for r in groups[key]]
        returns = [torch.tensor(data["returns"][key[2]], dtype=torch.float64) for data in own]
        digits = TASKS[key[0]].digits
        scores = [data["nll"] for data in own if "nll" in data]
        rows.append(
            [
                *key,
                interval([float(values.mean()) for values in returns], digits),
                interval([float(cvar(values, ALPHA)) for values in returns], digits),
                interval(scores, 3) if scores else None,
                f"{len(own)}",
                f"{sum(map(len, returns))}",
                round(float(np.mean([data["cpu_seconds"] for data in own]))),
            ]
        )
    return {
        "title": "Plans for the mean and for the worst tenth",
        "caption": (
            "Mean return and mean of the worst tenth of the episodes of a seed (CVaR_.1), and NLL "
            "in nats of next states with noise .05: means with the 95 % interval (Student's t) "
            "over seeds. The NLL of a cvae is an upper bound (K = 256), that of an ensemble "
            "belongs to its mean law. CPU seconds a seed: fit and both plans (mpc), or training "
            "(mbpo)."
        ),
        "columns": [
            "task",
            "way",
            "objective",
            "model",
            "return",
            "CVaR_.1",
            "NLL",
            "seeds",
            "episodes",
            "CPU s",
        ],
        "rows": rows,
        "notes": [
            _by_seed(groups, task, way)
            for task, way in dict.fromkeys(key[:2] for key in sorted(groups, key=_place))
        ],
        "data": {r.path.stem: dict(r.data) for r in results},
        "command": commands(results),
        "settings": plain(
            {
                f"{r.cell['task']}, {r.cell['way']}": {
                    name: value for name, value in r.cell["settings"].items() if name != "model"
                }
                for r in results
            }
        ),
    }


def _by_seed(
    groups: Mapping[tuple[str, str, str, str], Sequence[Result]], task: str, way: str
) -> str:
    """Mean returns of the seeds, in their order, by objective and model."""
    told = []
    for key in sorted((key for key in groups if key[:2] == (task, way)), key=_place):
        means = (np.mean(r.data["returns"][key[2]]) for r in groups[key])
        digits = TASKS[task].digits
        told.append(f"{key[2]}, {key[3]} {', '.join(f'{mean:.{digits}f}' for mean in means)}")
    return f"Returns by seed ({task}, {way}): {'; '.join(told)}."


def commands(results: Results) -> str:
    """The commands that compute these cells, a line for each."""
    seeds: dict[tuple[str, str, str, str], list[int]] = {}
    for r in results:
        key = tuple(r.cell[name] for name in ("preset", "task", "way", "model"))
        seeds.setdefault(key, []).append(r.cell["seed"])
    models: dict[tuple[str, str, str, tuple[int, ...]], list[str]] = {}
    for (preset, task, way, model), own in seeds.items():
        models.setdefault((preset, task, way, tuple(sorted(own))), []).append(model)
    options = (
        {"preset": preset, "tasks": [task], "ways": [way], "models": names, "seeds": [*own]}
        for (preset, task, way, own), names in models.items()
    )
    return "\n".join(command_line("risk", run, given) for given in options)


def _place(key: tuple[str, str, str, str]) -> tuple[int, ...]:
    orders = (list(TASKS), WAYS, OBJECTIVES, (TRUTH, *HEADS))
    return tuple(order.index(name) for order, name in zip(orders, key, strict=True))


def _task(name: str, debug: bool) -> Task:
    return debug_task(TASKS[name]) if debug else TASKS[name]


def _settings(task: str, way: str, model: str, debug: bool) -> dict[str, Any]:
    """What a cell's numbers depend on beside its names."""
    own = _task(task, debug).as_data(way)
    return {**own, "model": None if model == TRUTH else plain(vars(MODELS[model]))}
