"""The experiment `cloning`: its rivals, the floor, and the way it judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from vaerl.agents import BC
from vaerl.data import Demonstrations, Episode
from vaerl.experiments.cloning.experiment import make_cell, run
from vaerl.experiments.cloning.replay import Replay
from vaerl.experiments.cloning.rivals import Diffusion, FlowMatching, Rival
from vaerl.experiments.cloning.rows import ROWS, AtZero
from vaerl.experiments.cloning.studies import STUDIES, Place
from vaerl.experiments.cloning.tasks import TASKS, judge, record_avoiding

BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize("rival", [FlowMatching, Diffusion])
def test_a_rival_learns_a_law_of_two_modes(rival: type[Rival]) -> None:
    """x = ±(1 + c/2) + noise of σ = .1: both signs, the right distance, the spread."""
    torch.manual_seed(0)
    density = rival(1, 1, hidden=64, blocks=2)
    optimizer = torch.optim.Adam(density.parameters(), 3e-3)
    for _ in range(500):
        context = 2.0 * torch.rand(256, 1) - 1.0
        sign = 2.0 * torch.randint(0, 2, (256, 1)) - 1.0
        x = sign * (1.0 + context / 2.0) + 0.1 * torch.randn(256, 1)
        loss = density.loss(context, x)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for c in (-0.8, 0.8):
        drawn = density(torch.full((1, 1), c)).sample((2000,)).ravel()
        assert 0.4 < float((drawn > 0).float().mean()) < 0.6
        distance = drawn.abs()
        assert abs(float(distance.median()) - (1.0 + c / 2.0)) < 0.1
        between = (distance < 0.5 * (1.0 + c / 2.0)).float().mean()
        assert float(between) < 0.1


def test_replay_plays_what_was_done_where_it_stands() -> None:
    """With one neighbour, from a demonstrated observation, it repeats the demonstration."""
    rng = np.random.default_rng(0)
    episodes = [
        Episode(rng.uniform(-1, 1, (9, 2)), rng.uniform(-1, 1, (8, 2)), terminated=True)
        for _ in range(5)
    ]
    data = Demonstrations(episodes, BOX, BOX)
    policy = Replay(data, execute=4, neighbours=1)
    state, start = None, np.ones(5, bool)
    for step in range(8):
        seen = np.stack([np.asarray(e.observations)[step] for e in data])
        actions, state = policy.predict(seen, state, start)
        start = np.zeros(5, bool)
        np.testing.assert_array_equal(actions, np.stack([e.actions[step] for e in data]))


def test_at_zero_always_goes_the_same_way() -> None:
    """The row of action chunking: its latent at zero takes the chance out of the decision."""
    data = Demonstrations([Episode(np.zeros((9, 2)), np.ones((8, 2)) * 0.5)] * 3, BOX, BOX)
    row = ROWS["act-z0"]
    agent = BC(row.density, data=data, seed=0, policy_kwargs={"density_kwargs": row.options})
    seen = np.zeros((1, 2), np.float32)
    drawn = {float(agent.predict(seen)[0][0, 0]) for _ in range(5)}
    fixed = {float(AtZero(agent).predict(seen)[0][0, 0]) for _ in range(5)}
    assert len(drawn) == 5 and len(fixed) == 1
    context = agent.policy.context(torch.zeros(1, agent.policy.obs_dim))
    latent: Any = agent.policy.density
    mean = latent.value_given_codes(context, torch.zeros(1, latent.code_dim)).mean.detach()
    assert fixed == {float(agent.policy.chunks(mean)[0, 0, 0])}


def test_the_judge_finds_an_expert_perfect_and_a_still_policy_lost() -> None:
    class Still:
        def predict(self, seen: np.ndarray, state: Any, start: np.ndarray) -> Any:
            return np.zeros((len(seen), 2), np.float32), None

    task = TASKS["avoiding"]
    lost = judge(Still(), task, 3, 0)
    assert lost.numbers["success"] == 0.0 and lost.numbers["entropy"] == 0.0
    replay = Replay(record_avoiding(96, 0), execute=16, neighbours=1)
    found = judge(replay, task, 3, 0)
    assert found.numbers["success"] == 1.0
    assert found.paths.shape[0] == 3 and np.isfinite(found.paths[:, 0]).all()


def test_every_place_of_a_study_has_a_cell_with_another_name() -> None:
    for study in STUDIES.values():
        names = [make_cell(place, seed).name for place in study.places for seed in range(2)]
        assert len(set(names)) == len(names)
    short = make_cell(Place("avoiding", "mixture-16", chunk=4), 0)
    assert (short.settings["chunk"], short.settings["execute"]) == (4, 2)


def test_the_debug_preset_makes_table_and_picture(tmp_path: Path) -> None:
    path = run(tmp_path, "debug", tasks=["avoiding"], policies=["replay", "gaussian", "cvae"])
    record = json.loads(path.read_text())
    assert [row[1] for row in record["rows"]] == ["replay", "gaussian", "cvae"]
    assert (tmp_path / "figures" / "avoiding.png").stat().st_size > 1000
    timed = json.loads(run(tmp_path, "debug", study="latency").read_text())
    assert {row[1] for row in timed["rows"]} == {name for name, row in ROWS.items() if row.density}
    with pytest.raises(ValueError, match="study: got 'row'"):
        run(tmp_path, "debug", study="row")
