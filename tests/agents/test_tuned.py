"""Settings that ship: complete, legal, and honest about what chose them."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import pytest

from tests.policies.common import TinyEnv
from vaerl.agents import make_agent
from vaerl.agents.tuned import Tuned, tuned, tuned_entries
from vaerl.runs.agent_options import check_agent_options

RECORD = Path(__file__).resolve().parents[2] / "experiments/returns/results/returns.json"
STEPS, SEEDS = r"\d{1,3}(?:,\d{3})+", r"seeds? \d+(?:(?:, | to )\d+)*"
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
    for given, near in (
        ({"recipe": "cross"}, "recipe: got 'cross', did you mean 'crossq'"),
        ({"agent": "sacc"}, "agent: got 'sacc', did you mean 'sac'"),
        ({"density": "gausian"}, "density: got 'gausian', did you mean 'gaussian'"),
    ):
        with pytest.raises(ValueError, match=near):
            tuned("Hopper-v5", **given)
    for status, run in (("chosen", ""), ("run", ""), ("untested", "a run")):
        with pytest.raises(ValueError, match="run: got"):
            Tuned("sac", "sac", ("Hopper-v5",), ("cvae",), status, "source", run)


def test_settings_are_the_callers_own() -> None:
    """What one caller changes, no other sees, also where entries share options."""
    mine = tuned("HalfCheetah-v5", recipe="crossq").options
    mine["gamma"], mine["policy_kwargs"]["net_arch"] = 0.1, [8]
    for env in ("HalfCheetah-v5", "Hopper-v5"):
        theirs = tuned(env, recipe="crossq").options
        assert "gamma" not in theirs and "net_arch" not in theirs["policy_kwargs"]


def test_what_an_environment_lacks_is_named_with_what_it_has() -> None:
    """In one whole line."""
    for given, line in (
        (
            {"env": "Pendulum-v1", "agent": "sac", "density": "cvae"},
            "tuned: got agent 'sac' and density 'cvae' for Pendulum-v1, expected one of: sac of "
            "agent sac with gaussian, crossq of agent sac with gaussian, ppo of agent ppo with "
            "gaussian",
        ),
        (
            {"env": "Hopper-v5", "agent": "mpc"},
            "tuned: got agent 'mpc' for Hopper-v5, expected one of: crossq of agent sac with "
            "gaussian or cvae, sac of agent sac with gaussian or cvae, ppo of agent ppo with "
            "gaussian or cvae",
        ),
        (
            {"env": "Reacher-v5"},
            "tuned: got env 'Reacher-v5', for which there are none, expected one of Ant-v5, "
            "HalfCheetah-v5, Hopper-v5, Humanoid-v5, HumanoidStandup-v5, "
            "InvertedDoublePendulum-v5, Pendulum-v1, Swimmer-v5, Walker2d-v5",
        ),
    ):
        with pytest.raises(ValueError) as caught:
            tuned(**given)
        assert str(caught.value) == line


@pytest.mark.parametrize("env", sorted({env for entry in tuned_entries() for env in entry.envs}))
def test_whoever_follows_the_error_finds_settings(env: str) -> None:
    """Each combination that it lists is there, and each that is there is listed."""
    with pytest.raises(ValueError) as caught:
        tuned(env, "mpc")
    listed = {
        (recipe, agent, density)
        for recipe, agent, densities in re.findall(
            r"(\w+) of agent (\w+) with ((?:\w+ or )*\w+)", str(caught.value)
        )
        for density in densities.split(" or ")
    }
    there = [entry for entry in tuned_entries() if env in entry.envs]
    assert listed == {(e.recipe, e.agent, density) for e in there for density in e.densities}
    for recipe, agent, density in listed:
        found = tuned(env, agent, density, recipe)
        assert (found.recipe, found.agent) == (recipe, agent) and density in found.densities


@pytest.mark.parametrize(
    "entry",
    [entry for entry in tuned_entries() if RECORD.name in entry.run],
    ids=lambda e: f"{e.recipe}-{e.envs[0]}",
)
def test_what_an_entry_says_of_its_run_stands_in_the_record(entry: Tuned) -> None:
    """Each number is the return of a run, or of a row of the table, at a number of steps that the
    entry names. The record holds best actions; what drawn ones return is not in it."""
    record = json.loads(RECORD.read_text())
    places = [name for name in entry.envs if name.partition("-")[0] in entry.run] or entry.envs
    steps = {int(number.replace(",", "")) for number in re.findall(STEPS, entry.run)}
    text = re.sub(rf"{STEPS}|{SEEDS}|drawn actions -?\d+|[A-Za-z][\w./-]*", " ", entry.run)
    numbers = {int(number) for number in re.findall(r"-?\d+", text)}
    assert steps and numbers
    own = [data for data in record["data"].values() if data["cell"]["env"] in places]
    there = {round(value) for data in own for at, value in data["judged"] if at in steps}
    for row in (row for row in record["rows"] if row[0] in places):
        marks = dict(zip(record["columns"], row, strict=True))
        cells = [marks.get(f"at {at // 1000}k", "–") for at in steps]
        there |= {int(cell.split()[0]) for cell in cells if cell != "–"}
    assert numbers <= there, sorted(numbers - there)
    for row in re.findall(r"\brow ([\w-]+)", entry.run):
        assert row in {data["cell"]["row"] for data in own}
