"""Risk: both tasks run whole, in the truth and in models, and what is planned for is got."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaerl.envs.currency_exchange import CurrencyExchangeEnv
from vaerl.experiments.dynamics.models import MODELS
from vaerl.experiments.risk import experiment
from vaerl.experiments.risk.experiment import ALPHA, assemble, make_cells, run
from vaerl.experiments.risk.playing import planned, play, walk, with_episodes
from vaerl.experiments.risk.tasks import TASKS, debug_task, treated
from vaerl.lab.cells import Result
from vaerl.planning import SimulatorModel


def test_debug_preset_runs_whole(tmp_path: Path) -> None:
    """A row for each task, way, objective and model; only models have an NLL everywhere."""
    record = json.loads(run(tmp_path, "debug").read_text())
    names = [tuple(row[:4]) for row in record["rows"]]
    assert len(set(names)) == len(names) == 16
    assert names[0] == ("currency", "mpc", "mean", "truth")
    scored = {tuple(row[:4]) for row in record["rows"] if row[6] is not None}
    assert {key for key in names if key[1] == "mpc"} - scored == {
        ("hiv", "mpc", objective, "truth") for objective in ("mean", "cvar")
    }
    assert record["command"].splitlines() == [
        f"vaerl experiment risk --preset debug --tasks {task} --ways {way} --models {models} "
        "--seeds 0"
        for task in ("currency", "hiv")
        for way, models in (("mpc", "truth,gaussian-x5,cvae"), ("mbpo", "gaussian-x5,cvae"))
    ]
    assert len(record["data"]) == 10
    assert len(record["data"]["hiv.mpc.truth.s0"]["returns"]["cvar"]) == 2
    before = record["rows"]
    again = json.loads(run(tmp_path, preset="debug", table=True).read_text())
    assert sorted(again["rows"]) == sorted(before)


def test_the_table_holds_the_mean_the_worst_tenth_and_each_seed() -> None:
    """Of 20 returns 1 … 20 the mean is 10.5 and the worst two have 1.5; a seed more adds ten."""
    results = [
        Result(
            Path(f"currency.mbpo.cvae.s{seed}.json"),
            {
                "task": "currency", "way": "mbpo", "model": "cvae", "seed": seed, "preset": "full",
                "settings": {"model": None},
            },
            {"cpu_seconds": 3.0, "returns": {"mean": [10 * seed + n for n in range(20, 0, -1)]}},
        )
        for seed in (1, 0)
    ]  # fmt: skip
    alone = assemble(results[1:])
    assert alone["columns"][4:6] == ["return", "CVaR_.1"]
    assert alone["rows"][0][4:6] == ["10.5", "1.5"]
    record = assemble(results)
    assert record["rows"][0][4:] == ["15.5 ± 63.5", "6.5 ± 63.5", None, "2", "40", 3]
    assert record["notes"] == ["Returns by seed (currency, mbpo): mean, cvae 10.5, 20.5."]
    assert record["data"]["currency.mbpo.cvae.s1"]["returns"]["mean"][-1] == 11


def test_in_the_truth_the_worst_tenth_sells_and_the_mean_waits() -> None:
    """Money sold at once brings 100 ± 5; waiting brings more in the mean and less at worst."""
    env = CurrencyExchangeEnv()
    found = {}
    for objective in ("mean", "cvar"):
        planner = TASKS["currency"].planner(objective, ALPHA)
        act = planned(env, SimulatorModel(env), planner, torch.Generator().manual_seed(0))
        found[objective] = np.sort(play(env, act, 40, 20, seed=0))
    assert found["mean"].mean() > 110.0 > found["cvar"].mean() > 95.0
    assert found["cvar"][:4].mean() > 85.0 > found["mean"][:4].mean()


def test_random_treatments_are_kept_and_join_up() -> None:
    """Each next state is the state of the row a step later of the same patient."""
    env = TASKS["hiv"].make_env()
    data = treated(env, 100, np.random.default_rng(0))
    assert len(data) == 100
    patients = 2
    assert torch.equal(data.next_states[:-patients], data.states[patients:])
    same = (data.actions[patients:] == data.actions[:-patients]).all(1).float().mean()
    assert 0.3 < same < 0.85  # kept for 2.5 steps in the mean: .6


def test_planned_episodes_join_the_data_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the random rows, with what they led to; the model is fitted to all of them anew."""
    task = debug_task(TASKS["hiv"])
    sizes: list[int] = []

    def fitted(task: Any, env: Any, model: Any, data: Any, seed: int) -> SimulatorModel:
        sizes.append(len(data))
        return SimulatorModel(env)

    monkeypatch.setattr(experiment, "_fitted", fitted)
    monkeypatch.setattr(experiment, "nll", lambda world, data: 0.0)
    experiment._learned(task, MODELS["cvae"], 0)
    rows = task.budget.transitions
    assert task.rounds == 1 and sizes == [rows, rows + task.episodes * task.steps]
    env = task.make_env()
    old = treated(env, 10, np.random.default_rng(0))
    act = planned(env, SimulatorModel(env), task.planner("mean", ALPHA), torch.Generator())
    joined = with_episodes(old, walk(env, act, 3, 2, seed=0))
    assert torch.equal(joined.states[:10], old.states) and len(joined) == 16
    assert torch.equal(joined.next_states[10:13], joined.states[13:])  # the second step
    assert not torch.equal(joined.actions[10:13], joined.actions[13:])


def test_the_truth_is_planned_in_alone() -> None:
    """MBPO learns with models only; unknown names are refused in one line."""
    cells = make_cells(seeds=[0])
    assert [c.model for c in cells if c.way == "mbpo" and c.task == "hiv"] == [
        "gaussian-x5", "mixture", "cvae", "cvae-x5"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="task: got 'currenzy', did you mean 'currency'"):
        make_cells(tasks=["currenzy"])
    with pytest.raises(ValueError, match="model: got 'truht', did you mean 'truth'"):
        make_cells(models=["truht"])
