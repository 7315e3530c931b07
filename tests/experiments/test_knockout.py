"""Knock-out: what is blocked is what the episodes preferred, and the debug preset runs whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from vaerl.experiments.knockout.blocks import go_on
from vaerl.experiments.knockout.experiment import TASKS, make_run, run
from vaerl.runs.evaluate import evaluate


class Walker:
    """Goes in one direction; one episode of four in the other."""

    def __init__(self, *direction: float) -> None:
        self.direction = np.array(direction, np.float32)

    def predict(self, observation: np.ndarray, *, deterministic: bool = False) -> tuple[Any, Any]:
        signs = np.where(np.arange(len(observation)) % 4 == 3, -1.0, 1.0)
        return (signs[:, None] * self.direction).astype(np.float32), None


@pytest.mark.parametrize(
    ("task", "block", "direction", "wanted"),
    [
        ("plane", "goal", (-1.0, 0.0), {"removed_goals": [1]}),
        ("plane", "wall", (0.0, 1.0), {"obstacles": [2]}),
        ("maze", "goal", (1.0, -1.0), {"removed_goals": [3]}),
    ],
)
def test_the_preferred_way_is_blocked(
    task: str, block: str, direction: tuple[float, float], wanted: dict[str, Any]
) -> None:
    """Three quarters of the episodes lose their way, the others keep it."""
    env = TASKS[task].settings["env"]
    before = evaluate(Walker(*direction), env, episodes=8, seed=0, traces=8)
    assert (before.goals >= 0).all()
    blocked = TASKS[task].blocks[block](before)
    assert blocked == wanted
    after = evaluate(Walker(*direction), env, episodes=8, seed=0, env_options=blocked)
    assert (after.goals >= 0).tolist() == [False, False, False, True] * 2


def test_the_door_is_the_cell_that_most_episodes_pass() -> None:
    env = TASKS["maze"].settings["env"]
    before = evaluate(Walker(-1.0, -1.0), env, episodes=8, seed=0, traces=8)
    assert TASKS["maze"].blocks["door"](before) == {"obstacles": [2]}


def test_adaptation_goes_on_where_the_agent_stood() -> None:
    """In the other environment, from an empty buffer, with an update for each step."""
    from vaerl.agents import SAC

    env = gymnasium.make("vaerl/PointMass-v0")
    kwargs = {"net_arch": [8]}
    agent = SAC("gaussian", env, policy_kwargs=kwargs, ent_coef="anneal_1_0.1", buffer_size=500,
                learning_starts=100)  # fmt: skip
    agent.learn(150)
    go_on(agent, "vaerl/PointMass-v0", {"removed_goals": [0]}, 200, seed=0, rate=1e-4, updates=1)
    assert agent.get_env().get_attr("removed_goals") == [(0,)]
    assert agent.num_timesteps == 350 and agent.replay_buffer.size() == 200
    assert agent._n_updates == 50 + 150
    assert agent.actor.optimizer.param_groups[0]["lr"] == 1e-4
    assert float(agent.ent_coef_tensor) == pytest.approx(0.1)


def test_debug_preset_runs_whole(tmp_path: Path) -> None:
    """Training, block and adaptation of one density on both tasks."""
    record = json.loads(run(tmp_path, "debug", densities=["gaussian"]).read_text())
    blocks = [(name, block) for name, task in TASKS.items() for block in task.blocks]
    assert [row[:4] for row in record["rows"]] == [[*pair, "gaussian", "1"] for pair in blocks]
    runs = {one["task"]: one for one in record["runs"]}
    for task, block in blocks:
        numbers = runs[task][block]
        assert all(0.0 <= numbers[name] <= 1.0 for name in ("before", "at_once", "after"))
        assert set(numbers["returns"]) == {"before", "at_once", "after"}
    assert record["command"] == "vaerl experiment knockout --preset debug --densities gaussian"
    assert record["title"].endswith("after 120 more steps")
    assert record["columns"][7] == "after 120 steps"
    assert record["caption"].startswith("Shares of 6 episodes")


def test_densities_differ_in_nothing_else() -> None:
    """An unknown one is refused in one line."""
    settings = [dict(make_run("maze", d, 0).settings) for d in ("gaussian", "cvae")]
    assert [own.pop("density") for own in settings] == ["gaussian", "cvae"]
    assert [own.pop("density_options") for own in settings] == [{}, {"prior_components": 32}]
    assert settings[0] == settings[1]
    with pytest.raises(ValueError, match="density: got 'cave', did you mean 'cvae'"):
        make_run("maze", "cave", 0)
