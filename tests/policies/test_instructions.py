"""An instruction-conditioned policy reads words and things, and understands new combinations."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import nn

import vaerl.envs
from vaerl.envs.coloured_goals import PLACES
from vaerl.experiments.instructions.experiment import KINDS, run
from vaerl.policies import SACPolicy
from vaerl.policies.instructions import InstructionExtractor

vaerl.envs.register_envs()
ENV = "vaerl/ColouredGoals-v0"
THINGS = {"things": "goals", "labels": "colours", "count": 8}


def scenes(
    combinations: str, count: int, seed: int, asks: str = "mixed"
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Observations at the start of episodes, as SB3 preprocesses them, and the goal asked for."""
    env = gymnasium.make(ENV, combinations=combinations, asks=asks).unwrapped
    env.reset(seed=seed)
    rows, targets = [], []
    for _ in range(count):
        rows.append(env.reset()[0])
        targets.append(env.target)
    stacked = {key: torch.as_tensor(np.stack([r[key] for r in rows])) for key in rows[0]}
    return preprocess_obs(stacked, env.observation_space), torch.tensor(targets)


def test_held_out_combinations_are_understood() -> None:
    """Fitted to where the goal asked for lies, on combinations of training: held-out ones are
    pointed at in 90 % of scenes, and with another scene's words in few; so are goals of which one
    word alone is said."""
    torch.manual_seed(0)
    space = gymnasium.make(ENV).observation_space
    rows, targets = scenes("training", 800, 0)
    extractor = InstructionExtractor(space, **THINGS)
    head = nn.Sequential(nn.Linear(extractor.features_dim, 32), nn.ReLU(), nn.Linear(32, 2))
    optimiser = torch.optim.Adam([*extractor.parameters(), *head.parameters()], 4e-3)
    places = torch.as_tensor(PLACES).float()
    for step in range(200):
        pick = torch.randint(800, (64,), generator=torch.Generator().manual_seed(step))
        found = head(extractor({key: value[pick] for key, value in rows.items()}))
        loss = (found - places[targets[pick]]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        for asks in ("colour", "side"):
            rows, targets = scenes("training", 100, 1, asks)
            assert _obeyed(head(extractor(rows)), targets) >= 0.9, asks
        rows, targets = scenes("held-out", 200, 1, "both")
        obeyed = _obeyed(head(extractor(rows)), targets)
        rows["instruction"] = rows["instruction"].roll(1, 0)
        misled = _obeyed(head(extractor(rows)), targets)
    assert obeyed >= 0.9 and misled < 0.6, (obeyed, misled)


def _obeyed(found: torch.Tensor, targets: torch.Tensor) -> float:
    distance = (found.unsqueeze(1) - torch.as_tensor(PLACES).float()).norm(dim=-1)
    return (distance.argmin(-1) == targets).float().mean().item()


def test_what_is_said_is_a_sum_over_the_words() -> None:
    """β is a softmax of scores; swapping the colours of two goals swaps what is pointed at."""
    torch.manual_seed(1)
    extractor = InstructionExtractor(gymnasium.make(ENV).observation_space, **THINGS)
    rows, _ = scenes("all", 5, 2, "both")
    place, weights, heard = extractor.point(rows)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5))
    torch.testing.assert_close(place, weights @ torch.as_tensor(PLACES).float())
    assert ((heard > 0.0) & (heard < 1.0)).all()
    order = torch.tensor([1, 0, *range(2, 8)])
    swapped = dict(rows)
    for key in ("goals", "colours"):
        swapped[key] = rows[key].reshape(5, 8, -1)[:, order].flatten(1)
    torch.testing.assert_close(extractor.point(swapped)[1], weights[:, order])


def test_what_is_not_there_is_not_pointed_at() -> None:
    """A thing with label 0 has β = 0, whatever the words; the others share it."""
    torch.manual_seed(1)
    extractor = InstructionExtractor(gymnasium.make(ENV).observation_space, **THINGS)
    rows, _ = scenes("all", 5, 2, "side")
    there = rows["colours"].reshape(5, 8, -1).argmax(-1) > 0
    weights = extractor.point(rows)[1]
    assert there.sum(-1).tolist() == [4] * 5
    assert (weights[~there] == 0.0).all() and (weights[there] > 0.0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(5))


@pytest.mark.parametrize("kwargs", [{}, THINGS])
def test_it_works_in_unmodified_sb3(kwargs: dict) -> None:
    """SB3's own SAC learns with it over a CVAE, and every parameter of it gets a gradient."""
    model = SAC(
        SACPolicy, ENV, seed=0, learning_starts=10, batch_size=16, buffer_size=100,
        policy_kwargs={
            "density": "cvae", "net_arch": [16], "features_extractor_class": InstructionExtractor,
            "features_extractor_kwargs": kwargs,
        },
    )  # fmt: skip
    extractor = model.actor.features_extractor
    before = {name: value.clone() for name, value in extractor.named_parameters()}
    model.learn(14)
    still = [n for n, value in extractor.named_parameters() if (value == before[n]).all()]
    assert still == [], still


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": "instructions"}, "^words: .*did you mean 'instruction'"),
        ({"things": "goal"}, "^things: .*did you mean 'goals'"),
        ({"things": "goals", "count": 3}, "^count: got 3, but things has 16 numbers"),
        ({"words": "goals"}, "^words: .*expected a MultiDiscrete"),
        ({"labels": "colours", "count": 8}, "^labels: got 'colours' without things"),
        ({**THINGS, "things": "instruction"}, "^things: got 'instruction', .*expected a Box"),
        ({**THINGS, "labels": "instruction"}, "^labels: got 'instruction', .*another key"),
        ({"embedding": 0}, "^embedding: got 0, expected a whole number of at least 1"),
        ({"hidden": -1}, "^hidden: got -1, expected"),
        ({"alignment": 0}, "^alignment: got 0, expected"),
    ],
)
def test_bad_options_raise_one_line(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstructionExtractor(gymnasium.make(ENV).observation_space, **change)
    with pytest.raises(ValueError, match="expected a Dict"):
        InstructionExtractor(spaces.Box(-1.0, 1.0, (3,)))


def test_the_experiment_runs_whole(tmp_path: Path) -> None:
    """Both rows and a picture; another density or learner is refused."""
    run(tmp_path, preset="debug")
    record = json.loads((tmp_path / "results.json").read_text())
    assert [row[0] for row in record["rows"]] == ["words", "no words"]
    assert record["columns"][2:-1] == [*KINDS]
    assert (tmp_path / "figures" / "instructions.png").exists()
    for options, other in (
        ({"density": "gaussian"}, "density: got 'cvae', expected 'gaussian'"),
        ({"learner": "sac"}, "learner: got 'demonstrations', expected 'sac'"),
    ):
        with pytest.raises(ValueError, match=f"words-s0.json: .*{other}.*another --out"):
            run(tmp_path, preset="debug", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policies": ["word"]}, "did you mean 'words'"),
        ({"threads": 0}, "^threads: got 0, expected a whole number of at least 1"),
        ({"seeds": [0, -1]}, "^seeds: got -1, expected a whole number from 0"),
        ({"seeds": [2**32]}, "^seeds: got 4294967296"),
    ],
)
def test_the_experiment_refuses_bad_options_in_one_line(
    tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "never", preset="debug", **options)
    assert not (tmp_path / "never").exists()
