"""Behaviour cloning keeps the ways of the demonstrations, and acts in chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from vaerl.agents import BC
from vaerl.agents.bc import Windows
from vaerl.checkpoint import load_checkpoint, save_checkpoint
from vaerl.data import Demonstrations, Episode
from vaerl.runs.config import TrainConfig

OBS, ACT = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (1,))


class Corridor(gymnasium.Env):
    """Nothing but spaces: what the agents here are trained for is in the data."""

    observation_space, action_space = OBS, ACT

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, False, True, {}


class CallAt(BaseCallback):
    """Calls a function after an update."""

    def __init__(self, update: int, call: Any) -> None:
        super().__init__()
        self.update, self.call = update, call

    def _on_step(self) -> bool:
        if self.num_timesteps == self.update:
            self.call()
        return True


def two_ways(episodes: int = 60, steps: int = 8) -> Demonstrations:
    """Each episode goes left or right at one half, from observations that do not say which."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(episodes):
        way = 0.5 * (-1) ** i
        observations = rng.uniform(-1.0, 1.0, (steps + 1, 2))
        actions = way + 0.02 * rng.normal(size=(steps, 1))
        found.append(Episode(observations, actions, terminated=True))
    return Demonstrations(found, OBS, ACT)


def fitted(density: str = "cvae", steps: int = 500, **options: Any) -> BC:
    defaults: dict[str, Any] = {
        "chunk": 4,
        "execute": 2,
        "history": 1,
        "policy_kwargs": {"net_arch": [32]},
    }
    return BC(density, data=two_ways(), seed=0, device="cpu", **(defaults | options)).learn(steps)


def acts(agent: BC, steps: int, rows: int = 200) -> np.ndarray:
    """Actions ``(steps, rows)`` of that many environments side by side."""
    rng, state, start = np.random.default_rng(1), None, np.ones(rows, bool)
    found = []
    for _ in range(steps):
        observation = rng.uniform(-1.0, 1.0, (rows, 2)).astype(np.float32)
        action, state = agent.predict(observation, state, start)
        start = np.zeros(rows, bool)
        found.append(action[:, 0])
    return np.stack(found)


def test_both_ways_are_cloned_and_a_gaussian_takes_their_middle() -> None:
    """A chunk goes one way throughout; shares are one half within six standard errors."""
    chunks = acts(fitted(), 2)
    assert (np.abs(np.abs(chunks) - 0.5) < 0.15).mean() > 0.9
    assert (np.sign(chunks[0]) == np.sign(chunks[1])).mean() > 0.97
    assert abs((chunks[0] > 0).mean() - 0.5) < 6.0 * 0.5 / 200**0.5
    middle = acts(fitted("gaussian"), 2)
    assert np.abs(middle).mean() < 0.2


def test_a_latent_is_kept_as_long_as_asked() -> None:
    """With a prior that ignores the observation, a code kept for the episode keeps its way.

    Drawn at each of four decisions, one way in eight goes through by chance.
    """
    options = {"net_arch": [32], "density_kwargs": {"prior": "standard"}}
    kept = np.sign(acts(fitted(latent="episode", policy_kwargs=options), 8))
    assert (kept == kept[0]).all(axis=0).mean() > 0.8
    drawn = np.sign(acts(fitted(latent="decision", policy_kwargs=options), 8))
    assert (drawn == drawn[0]).all(axis=0).mean() < 0.3


def test_a_chosen_code_chooses_the_way() -> None:
    options = {"net_arch": [32], "density_kwargs": {"prior": "standard"}}
    agent, rng, ways = fitted(policy_kwargs=options), np.random.default_rng(0), []
    for code in agent.policy.density.draw_codes(32, seed=0).numpy():
        observations = rng.uniform(-1.0, 1.0, (40, 2)).astype(np.float32)
        actions, _ = agent.predict(observations, codes=code)
        ways.append(float(np.sign(actions[:, 0]).mean()))
    assert np.mean(np.abs(ways) > 0.9) > 0.7, "one code, one way, at most observations"
    assert min(ways) == -1.0 and max(ways) == 1.0


def test_a_chunk_is_carried_out_before_the_next_decision() -> None:
    """Actions follow the plan in the state; an episode that starts makes a new one."""
    agent = fitted(execute=3, steps=30)
    observation = np.zeros((2, 2), np.float32)
    _, state = agent.predict(observation)
    assert state is not None
    plan = state[0]
    second, state = agent.predict(observation + 1.0, state, np.array([False, True]))
    assert np.array_equal(second[0], plan[0, 1]) and not np.array_equal(second[1], plan[1, 1])
    assert state is not None and state[1].tolist() == [2, 1]
    with pytest.raises(ValueError, match="as `predict` returned"):
        agent.predict(observation[:1], state)


def test_windows_start_at_every_stride_of_each_episode() -> None:
    """Of two episodes of 8 and 5 steps: 0, 3, 6 and 0, 3; the last action is repeated."""
    numbers = [np.arange(count, dtype=np.float32)[:, None] / 10.0 for count in (9, 6)]
    data = Demonstrations.from_arrays(numbers, [seen[:-1] for seen in numbers])
    agent = BC("gaussian", data=data, chunk=3, history=1, stride=3)
    windows = Windows(data, agent.policy, agent.device, agent.stride)
    seen, events = windows.rows(torch.arange(len(windows)))
    np.testing.assert_allclose(10.0 * seen[:, 0], [0, 3, 6, 0, 3], atol=1e-6)
    np.testing.assert_allclose(10.0 * events[2], [6, 7, 7], atol=1e-6)


def test_inputs_seen_through_waves_may_be_counted_from_the_end() -> None:
    data = Demonstrations.from_arrays([np.zeros((3, 4))], [np.zeros((2, 1))])
    waves = [
        BC("gaussian", data=data, chunk=2, history=2, policy_kwargs={"wave_inputs": places}).policy
        for places in ((6, 7), (-2, -1))
    ]
    assert torch.equal(waves[0].wave_matrix, waves[1].wave_matrix)
    with pytest.raises(ValueError, match=r"expected places from -8 to 7"):
        BC("gaussian", data=data, chunk=2, history=2, policy_kwargs={"wave_inputs": (8,)})


def test_a_saved_agent_acts_alike(tmp_path: Path) -> None:
    """As a zip of SB3's and as a checkpoint, which is made again without running code."""
    env = Corridor()
    agent = BC("mixture", env, two_ways(), chunk=4, seed=0, device="cpu").learn(40)
    observation = np.full((3, 2), 0.2, np.float32)
    best, _ = agent.predict(observation, deterministic=True)
    agent.save(tmp_path / "bc.zip")
    save_checkpoint(agent, tmp_path / "checkpoints")
    for loaded in (
        BC.load(tmp_path / "bc.zip"),
        load_checkpoint(tmp_path / "checkpoints", env=Corridor()),
    ):
        np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], best)


def test_more_updates_go_on_and_patience_ends_them() -> None:
    agent = fitted(steps=40)
    agent.learn(20, reset_num_timesteps=False)
    assert agent.num_timesteps == 60
    early = fitted("gaussian", steps=2000, patience=1, learning_rate=0.05)
    assert early.num_timesteps < 2000


def test_a_cut_training_goes_on_exactly(tmp_path: Path) -> None:
    """Weights, their running average and the noise are those of the training that was not cut."""
    options: dict[str, Any] = {"policy_kwargs": {"net_arch": [16]}, "seed": 0, "device": "cpu"}
    whole = BC("cvae", Corridor(), two_ways(), **options)
    whole.learn(12, callback=CallAt(6, lambda: whole.save(tmp_path / "half.zip")))
    rest = BC.load(tmp_path / "half.zip", env=Corridor())
    rest.learn(6, data=two_ways(), reset_num_timesteps=False)
    assert rest.num_timesteps == whole.num_timesteps
    for name, part in whole.get_parameters().items():
        for key, tensor in part.items():
            if isinstance(tensor, torch.Tensor):
                assert torch.equal(tensor, rest.get_parameters()[name][key]), (name, key)
    average, learned = (list(p.parameters()) for p in (whole.policy, whole.learner))
    assert not torch.equal(average[0], learned[0])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"execute": 5}, "execute: got 5, expected at most the chunk of 4"),
        ({"latent": "ever"}, "latent: got 'ever'"),
        ({"density": "gaussian", "latent": "episode"}, "it has no latents to keep"),
        ({"policy_kwargs": {"wavelengths": [0.0]}}, "wavelengths: got"),
        ({"policy_kwargs": {"sigma_floor": 0.0}}, "sigma_floor: got 0.0"),
        ({"observation_noise": -1.0}, "observation_noise: got -1.0"),
        ({"env": gymnasium.make("Pendulum-v1")}, "data: got observations of"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        fitted(**({"steps": 1} | options))


def test_without_data_or_spaces_there_is_nothing_to_clone() -> None:
    with pytest.raises(ValueError, match="env: got None without data"):
        BC("cvae")
    with pytest.raises(ValueError, match="data: got None, expected demonstrations"):
        BC("cvae", Corridor()).learn(10)


def test_a_run_that_names_no_steps_takes_those_of_the_agent(tmp_path: Path) -> None:
    clone = TrainConfig("Pendulum-v1", agent="bc", data=str(tmp_path))
    assert (clone.steps, clone.eval_every) == (4_000, 400)
    assert TrainConfig("Pendulum-v1").steps == 100_000


def test_a_chunk_longer_than_every_episode_is_refused() -> None:
    data = Demonstrations.from_arrays(
        [np.zeros((4, 3)), np.zeros((6, 3))], [np.zeros((3, 1)), np.zeros((5, 1))]
    )
    message = r"^chunk: got 6, expected at most 5, the steps of the longest episode$"
    with pytest.raises(ValueError, match=message):
        BC("gaussian", data=data, chunk=6)
    BC("gaussian", data=data, chunk=5).learn(1)
    env = gymnasium.make("Pendulum-v1")
    with pytest.raises(ValueError, match=message):
        BC("gaussian", env, chunk=6).learn(data)


def test_a_cold_latent_is_the_mean_of_one_of_the_components() -> None:
    """From one observation three components leave three chunks; drawn warm, all rows differ."""
    options = {"net_arch": [8], "density_kwargs": {"prior_components": 3}}
    seen, found = np.zeros((300, 2), np.float32), {}
    for temperature in (0.0, 1.0):
        agent = fitted(steps=1, latent_temperature=temperature, policy_kwargs=options)
        found[temperature] = agent.predict(seen)[0]
    # a row's rounding may depend on its place in the batch: some 1e-7 of numbers around 1
    assert len(np.unique(found[0.0].round(5))) == 3
    assert len(np.unique(found[1.0].round(5))) > 200


def test_a_negative_temperature_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"latent_temperature: got -1\.0, expected"):
        BC("cvae", data=two_ways(), latent_temperature=-1.0)
