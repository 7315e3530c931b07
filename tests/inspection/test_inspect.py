"""What is said about a policy agrees with what is known of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import make, spaces
from stable_baselines3 import A2C

import vaerl
from vaerl.agents import BC, PPO, SAC
from vaerl.data import Demonstrations
from vaerl.densities import DENSITIES
from vaerl.inspection.away import share_away
from vaerl.inspection.inspect import inspect_policy
from vaerl.inspection.subject import FunctionSubject
from vaerl.inspection.tables import mode_table, tables
from vaerl.policies import ActorCriticPolicy
from vaerl.report.inspection import inspection_page

SEEN = np.zeros((1, 3), np.float32)
NET = {"net_arch": [8]}


def places(modes: int, dims: int) -> np.ndarray:
    """Places of modes whose distances are many times the noise around them."""
    return 10.0 * np.random.default_rng(3).normal(size=(modes, dims))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("modes", "dims"), [(1, 2), (4, 2), (4, 32), (40, 32)])
def test_the_number_of_modes_is_found_through_z(modes: int, dims: int, seed: int) -> None:
    """z_1, uniform over [−1, 1], chooses the mode; the other numbers of z move within it."""
    centres, waves = places(modes, dims), np.arange(dims)

    def act(observation: np.ndarray, z: np.ndarray) -> np.ndarray:
        chosen = min(int((z[0] + 1) / 2 * modes), modes - 1)
        return centres[chosen] + z[1] * np.cos(waves) + z[2] * np.sin(waves)

    look = inspect_policy(act, SEEN, latent_size=3, prior="uniform", seed=seed).looks[0]
    assert look.modes.count == modes
    if modes > 1:
        first, *others = look.latents
        assert first.share > 0.9 and first.modes == modes
        assert all(latent.share < 0.1 and latent.modes == 1 for latent in others)


class Counting(gymnasium.Env):
    """An observation with a plain int, which is a value of Discrete."""

    observation_space = spaces.Dict(box=spaces.Box(-1, 1, (2,)), count=spaces.Discrete(3))
    action_space = spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"box": np.zeros(2, np.float32), "count": 1}, {}


def test_a_count_that_is_no_array_can_be_looked_at() -> None:
    agent = SAC("gaussian", Counting(), buffer_size=8, policy_kwargs=dict(NET))
    seen = {"start": agent.env.envs[0].reset()[0]}
    assert inspect_policy(agent, seen).looks[0].modes.count == 1


def test_a_kept_latent_keeps_one_mode_and_an_unused_one_does_nothing() -> None:
    def act(observation: np.ndarray, z: np.ndarray) -> list[float]:
        return [np.sign(z[0]), 0.01 * z[1]]

    look = inspect_policy(act, SEEN, latent_size=3, draws=2048).looks[0]
    assert (look.modes.count, look.redrawn.modes) == (2, 2)
    assert look.kept is not None and look.kept.modes == 1.0
    # sums of 2048 equal numbers of size 1 in float64
    assert look.kept.spread == pytest.approx(0.0, abs=1e-12)
    assert look.decided == pytest.approx(1.0, rel=0, abs=1e-12)
    assert look.latents[2].share == 0.0
    # sign(0) = 0 lies where no draw of the prior ever does
    assert look.zero is not None and look.zero.modes == 1
    assert look.zero_away == 1.0


def test_noise_that_z_does_not_decide_is_told_from_it() -> None:
    """a = z + 3 ε: z decides 1 / (1 + 9) of the variance, and keeping it leaves √(9/10)."""
    rng = np.random.default_rng(0)

    def act(observation: np.ndarray, z: np.ndarray) -> np.ndarray:
        return z + 3.0 * rng.normal(size=1)

    look = inspect_policy(act, SEEN, latent_size=1, draws=8192).looks[0]
    # 2048 pairs: a standard error of about 0.9 √(2 / 2048) = 0.03
    assert look.decided == pytest.approx(0.1, abs=0.13)
    assert look.kept is not None
    assert look.kept.spread / look.redrawn.spread == pytest.approx(np.sqrt(0.9), abs=0.05)


def test_f_of_the_observation_alone_has_no_latents() -> None:
    look = inspect_policy(lambda seen: seen[:2], SEEN, latent_size=0, draws=64).looks[0]
    assert (look.modes.count, look.latents, look.kept, look.zero) == (1, (), None, None)


def agents(density: str) -> list[Any]:
    rng = np.random.default_rng(0)
    data = Demonstrations.from_arrays(
        [rng.uniform(-1, 1, (9, 3))], [rng.uniform(-2, 2, (8, 1))], env="Pendulum-v1"
    )
    env = make("Pendulum-v1")
    return [
        SAC(density, env, buffer_size=10, seed=0, policy_kwargs=NET),
        PPO(density, env, n_steps=8, batch_size=8, seed=0, policy_kwargs=NET),
        A2C(ActorCriticPolicy, env, seed=0, policy_kwargs={"density": density, **NET}),
        BC(density, data=data, chunk=4, history=2, seed=0, policy_kwargs=NET).learn(1),
    ]


@pytest.mark.parametrize("density", DENSITIES.names())
def test_every_agent_and_density_can_be_looked_at(density: str) -> None:
    try:
        found = agents(density)
    except (ImportError, ValueError) as error:
        pytest.skip(f"{density} does not act: {error}")
    for agent in found:
        look = inspect_policy(agent, SEEN, draws=256).looks[0]
        steps = getattr(agent.policy, "chunk", 1)
        assert look.centres.shape == (look.modes.count, steps, 1)
        assert (np.abs(look.centres) <= 2.0).all()
        has_codes = agent.policy.head.density.code_dim > 0
        assert (look.kept is not None) == (look.decided is not None) == has_codes
        assert len(look.latents) == agent.policy.head.density.code_dim


def two_ways(density: str) -> tuple[BC, Demonstrations]:
    """A clone of chunks of four actions that all go up or all go down, by chance."""
    rng = np.random.default_rng(0)
    sides = np.where(np.arange(60) % 2, 0.8, -0.8)
    data = Demonstrations.from_arrays(
        [rng.normal(size=(5, 3)).astype(np.float32) for _ in sides],
        [side + 0.05 * rng.normal(size=(4, 1)) for side in sides],
    )
    agent = BC(
        density,
        data=data,
        chunk=4,
        history=1,
        seed=0,
        validation=0.0,
        policy_kwargs={"net_arch": [32], "sigma_floor": 0.3},
    )
    return agent.learn(400), data


def test_a_clone_of_two_ways_is_told_from_a_gaussian_between_them() -> None:
    clone, data = two_ways("mixture")
    look = inspect_policy(clone, data=data, states=2, draws=2048).looks[0]
    assert look.modes.count == 2
    assert look.away is not None and look.away < 0.2
    signs = np.sign(look.centres.mean((1, 2)))
    assert sorted(signs.tolist()) == [-1.0, 1.0]
    between, data = two_ways("gaussian")
    look = inspect_policy(between, data=data, states=2, draws=2048).looks[0]
    assert look.modes.count == 1
    assert look.away is not None and look.away > 0.9


def test_new_data_are_away_as_often_as_the_data_themselves() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(256, 2))
    near = share_away(rng.normal(size=(4000, 2)), data)
    assert near is not None and near < 0.05
    assert share_away(data[:50] + 50.0, data) == 1.0
    assert share_away(data, data, np.zeros(256)) is None


def test_a_kept_latent_keeps_its_way_over_the_map() -> None:
    """Left or right by z, for good if it is kept, and into a post if it is not."""

    def act(observation: np.ndarray, z: np.ndarray) -> list[float]:
        return [np.copysign(0.006, z[0]), 0.008]

    found = inspect_policy(
        act, env="vaerl/Avoiding-v0", latent_size=1, states=2, draws=512, kept=6, episodes=3
    )
    redrawn, zero, *kept = found.ways
    assert redrawn.solved == 0.0
    assert zero.solved == 1.0
    assert [way.commonest[1] for way in kept] == [1.0] * 6
    assert {way.commonest[0] for way in kept} == {0, 23}


def test_a_function_acts_on_observations_in_parts() -> None:
    """Rows of a batch of dicts reach it one by one."""
    subject = FunctionSubject(lambda seen, z: seen["a"] + z, 1, "normal", [{"a": np.zeros(1)}])
    batch = {"a": np.arange(3.0)[:, None]}
    actions, _ = subject.predictor(np.array([0.5]), 0).predict(batch)
    np.testing.assert_array_equal(actions.ravel(), [0.5, 1.5, 2.5])


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(tmp_path: Path) -> None:
    agent = agents("cvae")[0]

    def numbers(seed: int) -> str:
        path = inspect_policy(agent, SEEN, draws=512, seed=seed).write(tmp_path / "x.json")
        return path.read_text(encoding="utf-8")

    first = numbers(0)
    assert first == numbers(0)
    assert first != numbers(1)
    read = json.loads(first)
    shares = [mode["share"] for mode in read["states"][0]["modes"]]
    assert sum(shares) == pytest.approx(1.0, rel=0, abs=1e-9)


def test_looking_changes_nothing_in_the_policy() -> None:
    agent = agents("cvae")[0]
    before = agent.predict(SEEN)[0], agent.predict(SEEN)[0]
    agent.policy.head.noise.reseed(0)
    first = agent.predict(SEEN)[0]
    inspect_policy(agent, SEEN, draws=128)
    second = agent.predict(SEEN)[0]
    agent.policy.head.noise.reseed(0)
    np.testing.assert_array_equal([agent.predict(SEEN)[0] for _ in range(2)], [first, second])
    assert before[0].shape == (1, 1)


def test_tables_and_page_hold_every_state_mode_and_way(tmp_path: Path) -> None:
    def act(observation: np.ndarray, z: np.ndarray) -> list[float]:
        return [np.copysign(0.006, z[0]), 0.008]

    found = inspect_policy(
        act, env="vaerl/Avoiding-v0", latent_size=2, states=2, draws=256, kept=1, episodes=1
    )
    states, latents, ways = tables(found)
    assert [row[0] for row in states.rows] == [look.name for look in found.looks]
    assert [row[0] for row in latents.rows] == ["z1", "z2"]
    assert [row[0] for row in ways.rows] == ["redrawn", "zero", "kept 1"]
    assert len(mode_table(found).rows) == sum(look.modes.count for look in found.looks)
    assert all(len(row) == len(table.columns) for table in tables(found) for row in table.rows)
    page = inspection_page(found, tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 + 3  # draws, latents, a map each
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        (3, {"observations": SEEN}, r"policy: got int, expected an agent or f\(observation, z\)"),
        (lambda o, z: z, {}, "observations: got none"),
        (lambda o, z: z, {"observations": np.zeros(3)}, r"observations: got shape \(3,\)"),
        (lambda o, z: z, {"observations": SEEN * np.nan}, "observations: got NaN"),
        (lambda o, z: z, {"observations": SEEN, "prior": "norml"}, "prior: got 'norml'"),
        (lambda o, z: z, {"observations": SEEN, "latent_size": -1}, "latent_size: got -1"),
        (lambda o, z: z * np.nan, {"observations": SEEN}, "got an action that is not"),
        (lambda o, z: z, {"observations": SEEN, "draws": 3}, "draws: got 3"),
        (lambda o, z: z, {"observations": SEEN, "states": 0}, "states: got 0"),
    ],
)
def test_mistakes_get_one_line(policy: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        inspect_policy(policy, **options)
    assert "\n" not in str(caught.value)


def test_a_policy_of_another_library_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="policy: got ActorCriticPolicy, expected a policy over"):
        inspect_policy(A2C("MlpPolicy", "Pendulum-v1"), SEEN)


def test_the_package_offers_it() -> None:
    assert vaerl.inspect_policy is inspect_policy
