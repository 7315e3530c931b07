"""The ends of MuJoCo tasks as functions of observations, against the environments themselves."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from vaerl.dynamics.mujoco_ends import mujoco_ends

ENDING = (
    ("Hopper-v5", {}),
    ("Hopper-v5", {"exclude_current_positions_from_observation": False}),
    ("Hopper-v5", {"healthy_state_range": (-4.0, 4.0)}),
    ("Walker2d-v5", {}),
    ("Walker2d-v5", {"healthy_z_range": (1.1, 1.3)}),
    ("Ant-v5", {}),
    ("Ant-v5", {"exclude_current_positions_from_observation": False}),
    ("Humanoid-v5", {}),
    ("InvertedPendulum-v5", {}),
    ("InvertedDoublePendulum-v5", {}),
)
ENDLESS = (
    ("HalfCheetah-v5", {}),
    ("Hopper-v5", {"terminate_when_unhealthy": False}),
    ("Ant-v5", {"terminate_when_unhealthy": False}),
    ("Reacher-v5", {}),
    ("Swimmer-v5", {}),
)


def _visits(name: str, settings: dict, steps: int = 400) -> tuple[np.ndarray, np.ndarray, object]:
    """Next observations under random actions, thrown about, and whether the task ended there."""
    env = gymnasium.make(name, **settings).unwrapped
    env.action_space.seed(0)
    env.reset(seed=0)
    draws = np.random.default_rng(0)
    seen, ended = [], []
    for _ in range(steps):
        after, _, end, _, _ = env.step(env.action_space.sample())
        seen.append(after)
        ended.append(end)
        if end or draws.random() < 0.05:
            env.reset()
            scale = draws.choice([0.02, 0.2, 0.5])
            kicks = draws.normal(0.0, scale, env.model.nq), draws.normal(0.0, scale, env.model.nv)
            env.set_state(env.data.qpos + kicks[0], env.data.qvel + kicks[1])
    return np.array(seen), np.array(ended), mujoco_ends(env)


def _said(ends: object, seen: np.ndarray) -> np.ndarray:
    states = torch.tensor(seen)
    assert callable(ends)
    return ends(states, torch.zeros(len(states), 1), states).numpy()


@pytest.mark.parametrize(("name", "settings"), ENDING)
def test_the_rule_ends_where_the_task_does(name: str, settings: dict) -> None:
    seen, ended, ends = _visits(name, settings)
    wrong = np.flatnonzero(_said(ends, seen) != ended)
    assert 10 < ended.sum() < len(ended) - 10, (name, ended.sum())
    assert len(wrong) == 0, (name, wrong, seen[wrong[:3]])


@pytest.mark.parametrize(("name", "settings"), ENDLESS)
def test_tasks_without_an_end_have_none(name: str, settings: dict) -> None:
    seen, ended, ends = _visits(name, settings, 30)
    assert not ended.any()
    assert not _said(ends, seen).any()


def test_states_may_be_laid_out_in_any_shape_and_bad_numbers_end() -> None:
    ends = mujoco_ends(gymnasium.make("InvertedPendulum-v5").unwrapped)
    states = torch.zeros(2, 3, 4)
    states[1, 2, 1] = -0.25
    states[0, 1, 3] = torch.nan
    assert _said(ends, states.numpy()).tolist() == [[False, True, False], [False, False, True]]


def test_the_poles_of_another_model_file_are_measured(tmp_path: Path) -> None:
    """Lengths and heights are those of the environment's own model."""
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    text = (folder / "inverted_double_pendulum.xml").read_text()
    changed = text.replace('pos="0 0 0.6"', 'pos="0 0 0.9"').replace('pos="0 0 .6"', 'pos="0 0 .7"')
    assert changed.count("0.9") == 1 + text.count("0.9"), "the model file has another form"
    path = tmp_path / "longer.xml"
    path.write_text(changed)
    seen, ended, ends = _visits("InvertedDoublePendulum-v5", {"xml_file": str(path)}, 300)
    assert 10 < ended.sum() < 290
    assert np.array_equal(_said(ends, seen), ended)


def test_other_tasks_have_no_rule() -> None:
    assert mujoco_ends(gymnasium.make("Pendulum-v1").unwrapped) is None
