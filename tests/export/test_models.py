"""An exported policy answers as the policy itself, in a program without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.policies.common import TinyEnv
from vaerl.agents import BC, IDQL, PLAS, PPO, SAC
from vaerl.data import Demonstrations
from vaerl.export.loader import Policy
from vaerl.export.models import export_policy

SMALL: dict[str, Any] = {
    "gaussian": {},
    "mixture": {"components": 3},
    "cvae": {"latent_dims": (2,), "hidden": 8},
    "flow": {"family": "MAF", "transforms": 1, "hidden": (8,)},
}
COUNT = 40


def data() -> Demonstrations:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(9, 2)).astype(np.float32) for _ in range(4)]
    env = TinyEnv()
    return Demonstrations.from_arrays(
        rows,
        [np.tanh(row[:8]) for row in rows],
        rewards=[np.ones(8)] * 4,
        observation_space=env.observation_space,
        action_space=env.action_space,
    )


def agent_of(kind: str, density: str, **options: Any) -> Any:
    """A tiny agent; those that learn from data have standardised by it."""
    small = {"net_arch": [8], "density_kwargs": SMALL[density]}
    policy_kwargs = small | options.pop("policy_kwargs", {})
    if kind in ("bc", "idql", "plas"):
        cls = {"bc": BC, "idql": IDQL, "plas": PLAS}[kind]
        critics = {} if kind == "bc" else {"critic_arch": [8]}
        options = {"chunk": 3, "execute": 2, "history": 2} | options if kind == "bc" else options
        agent = cls(density, TinyEnv(), data(), policy_kwargs=policy_kwargs | critics, **options)
        return agent.learn(2)
    cls = {"sac": SAC, "ppo": PPO}[kind]
    off = {"buffer_size": 100, "learning_starts": 5} if kind == "sac" else {}
    env = options.pop("env", None) or TinyEnv()
    return cls(density, env, policy_kwargs=policy_kwargs, seed=0, **off, **options)


# MBPO has the policy of SAC, A2C that of PPO, IQL that of BC with chunks of one action.
CASES = [
    *((kind, density) for kind in ("sac", "ppo", "bc", "idql") for density in SMALL),
    ("plas", "cvae"),
]


@pytest.mark.parametrize(("kind", "density"), CASES)
def test_answers_are_those_of_the_policy(kind: str, density: str, tmp_path: Path) -> None:
    """Drawn with the noise that `predict` drew, and deterministic; both models say so."""
    agent = agent_of(kind, density)
    if kind == "plas":
        agent.policy.freeze()
    found = export_policy(agent, tmp_path, COUNT)
    assert found.observations == COUNT and found.jumps <= 2
    for name in ("policy", "deterministic"):
        model = onnx.load(tmp_path / f"{name}.onnx")
        onnx.checker.check_model(model)
        about = json.loads(model.metadata_props[0].value)
        assert about["check"]["drawn"] == found.drawn <= 1e-5
        assert str(Path(__file__).parents[2]).encode() not in model.SerializeToString()
    exported = Policy(tmp_path, seed=0)
    env = TinyEnv()
    observation, _ = env.reset(seed=0)
    drawn = [exported.predict(observation)[0] for _ in range(20)]
    best = [exported.predict(observation, deterministic=True)[0] for _ in range(2)]
    assert all(env.action_space.contains(action) for action in (*drawn, *best))
    assert np.array_equal(best[0], best[1])
    if kind in ("sac", "ppo"):  # others may draw the best of few means
        assert len(np.unique(drawn, axis=0)) >= 10  # some are cut off at the box
    np.testing.assert_allclose(
        best[0], agent.predict(observation, deterministic=True)[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("dict_obs", [False, True])
def test_normalisation_is_inside(tmp_path: Path, dict_obs: bool) -> None:
    """The statistics of VecNormalize and those of the policy: raw observations go in."""
    env = VecNormalize(DummyVecEnv([lambda: TinyEnv(dict_obs)]), clip_obs=2.0)
    options: dict[str, Any] = {"policy_kwargs": {"normalize_observations": True}}
    agent = agent_of("sac", "mixture", env=env, **options)
    agent.learn(30)
    export_policy(agent, tmp_path, COUNT)
    exported = Policy(tmp_path, seed=0)
    raw = env.unwrapped.reset()
    best = exported.predict(raw, deterministic=True)[0]
    expected = agent.predict(env.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_allclose(best, expected, rtol=1e-4, atol=2e-5)
    shifted = {k: x + 1 for k, x in raw.items()} if dict_obs else raw + 1
    assert np.abs(exported.predict(shifted, deterministic=True)[0] - best).max() > 1e-3


def test_the_loader_keeps_what_the_policy_keeps(tmp_path: Path) -> None:
    """Past observations and the rest of a chunk, step by step; held noise as long as told."""
    agent = agent_of("bc", "cvae")
    export_policy(agent, tmp_path, COUNT)
    exported = Policy(tmp_path, seed=0)
    rng = np.random.default_rng(0)
    ours = theirs = None
    for step in range(9):
        start = np.array([step in (0, 5), step == 0])
        seen = rng.uniform(-1, 1, (2, 2)).astype(np.float32)
        action, ours = exported.predict(seen, ours, start, deterministic=True)
        expected, theirs = agent.predict(seen, theirs, start, deterministic=True)
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
    size = sum(width for _, width in exported.about["noise"])
    # a decision at every second step: noise changes with each, every four steps, or never
    for held, limit, changes in ((0, 0, [2, 4, 6, 8]), (size, 4, [4, 8]), (size, 0, [])):
        exported.about |= {"held": held, "limit": limit}
        state, noises = None, []
        for _ in range(9):
            _, state = exported.predict(np.zeros(2), state)
            noises.append(state[3])
        assert changes == [i for i in range(1, 9) if not np.array_equal(noises[i], noises[i - 1])]
