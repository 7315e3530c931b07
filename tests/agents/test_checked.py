"""What the constructors, `learn` and `predict` cannot use costs one line that names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runs.tiny import BitFlippingEnv, corridor
from vaerl.agents import A2C, BC, MBPO, MPC, PPO, SAC
from vaerl.data import Demonstrations


def sac(**options: Any) -> SAC:
    return SAC("gaussian", corridor(), **{"buffer_size": 10, **options})


def ppo(**options: Any) -> PPO:
    return PPO("gaussian", corridor(), **{"n_steps": 8, "batch_size": 8, **options})


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    **{
        f"{name} {value!r}": (lambda name=name, value=value: sac(**{name: value}), f"{name}: got ")
        for name, values in {
            "buffer_size": (0, -1, 1.5),
            "batch_size": (0, -3),
            "gamma": (-0.1, 1.1, float("nan"), "a", None, [0.9]),
            "tau": (-1, 2.0, "a"),
            "learning_rate": (
                *(-1.0, 1e4, "fast", "lin_1e9_1", "lin_1e-3_1e9", "lin_1e999"),
                *("lin_1e-3_1e-4_0", "cos_1e-3_1e-4_0.", "lin_1e-3_1e-4_2", "cos_1e-3_1e-4_1.01"),
            ),
            "learning_starts": (-1, 0.5),
            "train_freq": (0, -1, (0, "step")),
            "gradient_steps": (-2, 1.5),
            "target_update_interval": (0, "a", None, 1.5),
            "ent_coef": (-1, "fast", "-0.1", None, [1], math.nan, math.inf, True),
            "target_entropy": (math.nan, math.inf, None, [1], True, "nan"),
            "critic": ("", 5, "sac2"),
            "policy_delay": (0, "a"),
            "stats_window_size": (0,),
            "seed": (-1, "x", 2**32, 1.5),
            "policy_kwargs": (5, "x"),
            "device": ("gpu", 3.5),
            "verbose": ("x", 3),
            "replay_buffer_class": (3, dict),
            "replay_buffer_kwargs": (3,),
        }.items()
        for value in values
    },
    **{
        f"PPO {name} {value!r}": (lambda n=name, v=value: ppo(**{n: v}), f"{name}: got ")
        for name, value in {
            "clip_range": -0.1,
            "gae_lambda": 1.5,
            "n_epochs": 0,
            "n_steps": "x",
            "device": "gpu",
            "batch_size": 0,
            "max_grad_norm": -1.0,
            "target_kl": -1.0,
            "vf_coef": -1.0,
        }.items()
    },
    **{
        f"learn {value!r}": (
            lambda value=value: sac().learn(value),
            "total_timesteps: got .*, expected a whole number, 0 or more",
        )
        for value in (-1, "x", 2.5, float("nan"), True)
    },
    **{
        f"callback {value!r}": (
            lambda value=value: sac().learn(1, callback=value),
            "callback: got 3, expected a BaseCallback",
        )
        for value in (3, [3])
    },
    **{
        f"{cls.__name__} policy_kwargs": (
            lambda cls=cls: cls("gaussian", corridor(), policy_kwargs={"net_arc": [3]}),
            "policy_kwargs: option: got 'net_arc', did you mean 'net_arch'",
        )
        for cls in (SAC, PPO, A2C, MBPO)
    },
    "no critics": (lambda: sac(policy_kwargs={"n_critics": 0}), "n_critics: got 0"),
    "MBPO weight_by_uncertainty": (
        lambda: MBPO("gaussian", corridor(), weight_by_uncertainty="x"),  # type: ignore[arg-type]
        "weight_by_uncertainty: got 'x', expected True or False",
    ),
    "PPO learn": (lambda: ppo().learn(-1), "total_timesteps: got -1"),
    **{
        f"{cls.__name__} without env": (lambda cls=cls: cls("gaussian", None), "env: got None")
        for cls in (SAC, PPO, MPC, BC)
    },
    "env 5": (lambda: SAC("gaussian", 5), "env: got 5, expected an environment or its id"),  # type: ignore[arg-type]
    "policy 5": (lambda: SAC(5, corridor()), "policy: got 5, expected a density's name"),  # type: ignore[arg-type]
    "policy None": (lambda: PPO(None, corridor()), "policy: got None"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_argument_out_of_its_range_is_named(name: str) -> None:
    make, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_file_of_another_agent_is_refused_in_one_line(tmp_path: Path) -> None:
    sac().save(tmp_path / "sac.zip")
    with pytest.raises(ValueError, match=r"policy: got SACPolicy, expected .*ActorCriticPolicy"):
        PPO.load(tmp_path / "sac.zip")


LOADS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a critic": (lambda path: SAC.load(path, critic="crossq"), "critic: got 'crossq' for a saved"),
    "the same": (lambda path: SAC.load(path, critic="sac"), "critic: got 'sac' for a saved agent"),
    "normalised": (
        lambda path: SAC.load(path, normalize_observations=True),
        "normalize_observations: got True for a saved agent, expected none",
    ),
    "no option": (
        lambda path: SAC.load(path, gama=0.9),
        "a saved SAC: got 'gama', did you mean 'ga",
    ),
    "of others": (lambda path: SAC.load(path, members=2), "a saved SAC: got 'members', "),
    "no delay": (lambda path: SAC.load(path, policy_delay=0), "policy_delay: got 0, expected"),
    "units": (lambda path: SAC.load(path, scale_rewards=True), "scale_rewards: got True, expected"),
    "a rival's model": (
        lambda path: MBPO.load(path, reward="regressed"),
        "reward: got 'regressed' for a saved agent",
    ),
    "a number": (lambda path: SAC.load(path, env=3), "env: got 3, expected an environment or its"),
    "a model": (lambda path: MBPO.load(path), "parameters: got none for world, world_noise; exp"),
}


@pytest.mark.parametrize("name", LOADS)
def test_what_a_file_cannot_give_is_named(name: str, tmp_path: Path) -> None:
    sac().save(tmp_path / "sac.zip")
    load, message = LOADS[name]
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "sac.zip")
    assert SAC.load(tmp_path / "sac.zip", policy_delay=2).policy_delay == 2


def test_a_file_with_more_than_the_agent_has_is_refused(tmp_path: Path) -> None:
    MBPO("gaussian", corridor(), dynamics="gaussian", **MBPO.debug_options).save(tmp_path / "more")
    with pytest.raises(ValueError, match="parameters: got some for world, world_noise; expected"):
        SAC.load(tmp_path / "more")


def test_load_checks_options_and_keeps_those_of_the_file(tmp_path: Path) -> None:
    """Those of roll-outs in a model, and the native way."""
    options = {**MBPO.debug_options, "rollouts_kept": 2, "dynamics": "gaussian"}
    MBPO("gaussian", corridor(), **options).save(tmp_path / "mbpo")
    assert MBPO.load(tmp_path / "mbpo").imagined._parts.maxlen == 2
    assert MBPO.load(tmp_path / "mbpo", rollouts_kept=3).imagined._parts.maxlen == 3
    wrong: dict[str, Any] = {"real_share": 5, "rollout_schedule": [1], "model_train_freq": 0}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name}: got "):
            MBPO.load(tmp_path / "mbpo", **{name: value})
    ppo().save(tmp_path / "ppo")
    with pytest.raises(ValueError, match="native: got 'no', expected True or False"):
        PPO.load(tmp_path / "ppo", native="no")


@pytest.mark.parametrize("agent", [SAC, PPO, MBPO])
def test_a_file_is_loaded_into_an_environment_by_name(agent: Any, tmp_path: Path) -> None:
    """As the constructor takes one; the agent learns on in it."""
    made = agent("gaussian", "Pendulum-v1", **{**agent.debug_options, "seed": 0})
    made.save(tmp_path / "agent")
    again = agent.load(tmp_path / "agent", env="Pendulum-v1")
    again.learn(16)
    assert again.num_timesteps >= 16 and again.env.envs[0].spec.id == "Pendulum-v1"


def test_a_learned_temperature_goes_on(tmp_path: Path) -> None:
    """So a file's agent takes no other text for it."""
    sac(ent_coef="auto_0.5").save(tmp_path / "sac")
    with pytest.raises(ValueError, match=r"ent_coef: got 'auto_0\.1' for a saved agent"):
        SAC.load(tmp_path / "sac", ent_coef="auto_0.1")
    assert SAC.load(tmp_path / "sac", ent_coef="auto_0.5").ent_coef == "auto_0.5"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("form", ["path", "dict"])
def test_parameters_with_a_scale_of_rewards_go_into_agents_with_one(
    form: str, whole: bool, tmp_path: Path
) -> None:
    scaled = sac(scale_rewards=True)
    scaled.save(tmp_path / "scaled.zip")
    given = scaled.get_parameters() if form == "dict" else tmp_path / "scaled.zip"
    with pytest.raises(ValueError, match="scale_rewards: got False, expected True, as it was"):
        sac().set_parameters(given, exact_match=whole)
    sac(scale_rewards=True).set_parameters(given, exact_match=whole)


def test_a_part_of_the_parameters_is_set_on_request() -> None:
    first, second = sac(seed=0), sac(seed=1)
    part = {"policy": first.policy.state_dict()}
    with pytest.raises(ValueError, match=r"parameters: got none for actor\.optimizer, "):
        second.set_parameters(part)
    second.set_parameters(part, exact_match=False)
    for name, value in second.policy.named_parameters():
        assert value.equal(part["policy"][name]), name


@pytest.mark.parametrize(
    ("make", "name", "value", "other"),
    [
        (SAC, "critic", "crossq", "simba"),
        (SAC, "critic", "sac", "simba"),
        (SAC, "critic_options", {"norm": "layer"}, {"norm": "none"}),
        *((cls, "normalize_observations", True, False) for cls in (SAC, PPO, A2C)),
        *((cls, "normalize_observations", False, True) for cls in (SAC, PPO, A2C)),
    ],
)
def test_an_option_named_twice_is_refused_unless_both_agree(
    make: Any, name: str, value: Any, other: Any
) -> None:
    """Also where one of the two is the default; policy_kwargs alone decide too."""

    def made(**options: Any) -> Any:
        return make("gaussian", corridor(), **{"buffer_size": 10} if make is SAC else {}, **options)

    with pytest.raises(ValueError, match=f"{name}: got .*, but policy_kwargs has .*; name one"):
        made(**{name: value}, policy_kwargs={name: other})
    agreed = made(**{name: value}, policy_kwargs={name: value})
    assert agreed.policy_kwargs[name] == value
    assert made(policy_kwargs={name: other}).policy_kwargs[name] == other


@pytest.mark.parametrize("make", [SAC, PPO])
def test_a_dict_without_a_key_is_named(make: Any) -> None:
    env = BitFlippingEnv(n_bits=3, continuous=True)
    options = {"buffer_size": 10} if make is SAC else {"n_steps": 8, "batch_size": 8}
    agent = make("gaussian", env, **options)
    seen, _ = env.reset()
    assert agent.predict(seen)[0].shape == (3,)
    less = {key: value for key, value in seen.items() if key != "achieved_goal"}
    for given in (less, {**seen, "more": np.zeros(1)}, np.zeros(3)):
        with pytest.raises(ValueError, match=r"observation: got .*, expected a dict with the keys"):
            agent.predict(given)


def test_a_whole_number_of_steps_may_be_a_float() -> None:
    """As in scripts with learn(1e5)."""
    assert sac().learn(2e1).num_timesteps == 20
    assert ppo().learn(np.float32(16.0)).num_timesteps == 16
    rows = np.zeros((9, 1, 3), np.float32)
    data = Demonstrations.from_arrays([rows[:, 0]], [rows[1:, 0, :1]])
    assert BC("gaussian", data=data, batch_size=4, chunk=1).learn(3e0).num_timesteps == 3


def test_learning_nothing_is_legal() -> None:
    assert sac().learn(0).num_timesteps == 0
