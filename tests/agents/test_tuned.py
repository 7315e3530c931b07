"""Settings that ship: complete, legal, and honest about what chose them."""

from __future__ import annotations

from itertools import product

import pytest

from tests.policies.common import TinyEnv
from vaerl.agents import make_agent
from vaerl.agents.tuned import Tuned, tuned, tuned_entries
from vaerl.runs.agent_options import check_agent_options

ENVS = (
    "HalfCheetah-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Ant-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "Swimmer-v5",
)


@pytest.mark.parametrize("recipe", ["sac", "crossq", "ppo"])
def test_eight_environments_two_densities_three_recipes(recipe: str) -> None:
    """Each has an entry, which says where it comes from."""
    for env, density in product(ENVS, ("gaussian", "cvae")):
        found = tuned(env, density=density, recipe=recipe)
        assert env in found.envs and found.source and found.recipe == recipe
        assert tuned(env, found.agent, density).agent == found.agent


@pytest.mark.parametrize("entry", tuned_entries(), ids=lambda e: f"{e.recipe}-{e.envs[0]}")
def test_the_options_are_legal(entry: Tuned) -> None:
    """They pass the check of a run and build the agent."""
    check_agent_options(entry.agent, entry.options)
    for density in entry.densities:
        options = {"buffer_size": 10} if entry.agent == "sac" else {}
        agent = make_agent(entry.agent, density, TinyEnv(), **entry.options, **options)
        assert agent.gamma == entry.options.get("gamma", 0.99)


def test_what_is_missing_or_dishonest_is_refused() -> None:
    """In one line."""
    with pytest.raises(ValueError, match="tuned settings for env: got 'Hoper-v5', did you mean"):
        tuned("Hoper-v5")
    with pytest.raises(ValueError, match=r"tuned: got recipe any, agent mpc and density gaussian"):
        tuned("Hopper-v5", "mpc")
    with pytest.raises(ValueError, match="recipe: got 'cross', did you mean 'crossq'"):
        tuned("Hopper-v5", recipe="cross")
    for status, run in (("chosen", ""), ("run", ""), ("untested", "a run")):
        with pytest.raises(ValueError, match="run: got"):
            Tuned("sac", "sac", ("Hopper-v5",), ("cvae",), status, "source", run)
