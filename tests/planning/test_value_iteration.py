"""Planning with the true law does what value iteration does, where that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.experiments.oracle_planning import ghost_grid_plan
from vaerl.envs.ghost_grid import GhostGridEnv
from vaerl.planning import DiscreteActions, SimulatorModel, make_planner

GAMMA = 0.9
STATES = np.array(
    [  # agent, ghosts far away: each has one shortest way
        (6, 5, 0, 0, 0, 1),
        (5, 6, 0, 0, 0, 1),
        (6, 3, 0, 0, 0, 1),
        (3, 6, 0, 0, 0, 1),
        (6, 4, 6, 5, 0, 1),  # a ghost in the way: any step but up
    ],
    dtype=np.float64,
)


@pytest.mark.parametrize("name", ["random", "cem", "icem", "mppi"])
def test_first_actions_are_those_of_value_iteration(name: str) -> None:
    _, policy = ghost_grid_plan(GAMMA)
    best = policy(0, STATES)
    options = {"temperature": 0.1} if name == "mppi" else {}
    planner = make_planner(
        name, DiscreteActions(4), horizon=4, population=256, particles=8, discount=GAMMA, **options
    )
    plan = planner.plan(
        SimulatorModel(GhostGridEnv()),
        torch.as_tensor(STATES, dtype=torch.float32),
        generator=torch.Generator().manual_seed(0),
    )
    found = plan.actions[:, 0].numpy()
    assert (found[:4] == best[:4]).all(), (found, best)
    assert found[4] != 0 and best[4] != 0, (found, best)
