"""What MPC refuses: options, environments and states, each in one line."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from tests.agents.model_tasks import KnownWalk, Walk
from tests.agents.test_mpc import PLANNER, TINY, states
from tests.policies.common import TinyEnv
from vaerl.agents import MPC


def acting(space: spaces.Space) -> Walk:
    """`Walk` with another action space."""
    env = Walk()
    env.action_space = space
    return env


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cvea", Walk()), "policy: got 'cvea', did you mean 'cvae'?"),
        (("cvae", TinyEnv(dict_obs=True)), "observation_space: got Dict("),
        (("cvae", KnownWalk(), {"reward": "kown"}), "reward: got 'kown', expected one of learned"),
        (("cvae", Walk(), {"reward": "known"}), "reward: got 'known', but Walk has no method"),
        (("cvae", Walk(), {"planner": "ecm"}), "planner: got 'ecm', did you mean 'cem'?"),
        (
            ("cvae", Walk(), {"planner_kwargs": {"horizn": 3}}),
            "setting of planner icem: got 'horizn', did you mean 'horizon'?",
        ),
        (
            ("cvae", Walk(), {"fit_kwargs": {"patiense": 3}}),
            "fit_kwargs: option: got 'patiense', did you mean 'patience'?",
        ),
        (
            ("cvae", Walk(), {"matmul_precision": "half"}),
            "matmul_precision: got 'half', expected one of float32, bf16",
        ),
        (("cvae", acting(spaces.MultiDiscrete([2, 3]))), "action_space: got MultiDiscrete([2 3])"),
        (("cvae", acting(spaces.Box(-np.inf, np.inf, (1,)))), "action_space: got Box(-inf, inf"),
        (("cvae", Walk(), {"members": 0}), "members: got 0, expected a whole number of at least 1"),
        (("cvae", VecNormalize(DummyVecEnv([Walk]))), "env: got one in VecNormalize"),
        (("cvae", Walk(), {"planner_kwargs": 3}), "planner_kwargs: got 3, expected a dict of opt"),
        (
            ("cvae", Walk(), {"policy_kwargs": {"model_kwargs": 3}}),
            "model_kwargs: got 3, expected a dict of options",
        ),
        (
            ("cvae", Walk(), {"policy_kwargs": {"model_kwargs": {"reward": "regressed"}}}),
            "model_kwargs: got 'reward', which is an argument of MPC itself",
        ),
        (
            ("cvae", Walk(), {"policy_kwargs": {"model_kwargs": {"density": "flow"}}}),
            "model_kwargs: got 'density', which is an argument of the policy itself",
        ),
        (
            ("cvae", Walk(), {"policy_kwargs": {"model_kwargs": {"discrete_actions": True}}}),
            "option of the model: got 'discrete_actions', ",
        ),
        (
            ("cvae", Walk(), {"policy_kwargs": {"densty_kwargs": {}}}),
            "policy_kwargs: option: got 'densty_kwargs', did you mean 'density_kwargs'?",
        ),
        (
            ("cvae", Walk(), {"policy_kwargs": {"planner": "cem"}}),
            "policy_kwargs: option: got 'planner', expected one of density, density_kwargs, model",
        ),
        (
            ("cvae", Walk(), {"learning_rate": "x"}),
            "learning_rate: got 'x', expected a number or a schedule",
        ),
        (
            ("cvae", Walk(), {"action_noise": 3}),
            "action_noise: got 3, expected an ActionNoise of SB3 or None",
        ),
        (
            ("cvae", Walk(), {"fit_kwargs": {"holdout": 1.0}}),
            "holdout: got 1.0, expected a number in [0, 1)",
        ),
    ],
)
def test_refusals(arguments: tuple, message: str) -> None:
    """One line that names argument, value and what is legal."""
    policy, env, *more = arguments
    options = {"buffer_size": 10, **(more[0] if more else {})}
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        MPC(policy, env, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_known_functions_of_another_process_are_refused() -> None:
    """They cannot be called from here."""
    env = SubprocVecEnv([KnownWalk])
    try:
        with pytest.raises(
            ValueError, match="the environment runs in another process; use a Dummy"
        ):
            MPC("gaussian", env, reward="known", buffer_size=10)
    finally:
        env.close()


@pytest.mark.parametrize("discrete", [False, True])
def test_a_state_with_other_numbers_is_refused(discrete: bool) -> None:
    """Of another kind, not finite or no law, in rows that go on; those of new episodes do not
    count. So are no observations at all."""
    agent = MPC("gaussian", Walk(discrete), **TINY)
    _, state = agent.predict(states())
    laws = slice(1, 2 if discrete else 3)

    def changed(change: Any, parts: slice) -> tuple[Any, ...]:
        found = list(state)
        found[parts] = [change(part) for part in found[parts]]
        return tuple(found)

    nan, minus = (changed(lambda p, v=v: np.full_like(p, v), laws) for v in (np.nan, -0.5))
    for wrong, message in (
        (changed(lambda p: p.astype(np.float64), laws), "state: got torch.float64, expected torch"),
        (changed(lambda p: p.astype(np.int32), slice(0, 9)), "state: got torch.int32, expected"),
        (changed(lambda p: None, laws), "state: got a part that is no array of numbers, expected"),
        (nan, "state: got NaN or infinity, expected finite numbers"),
        (minus, "state: got a spread or probability ≤ 0, expected positive ones"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            agent.predict(states(), wrong)
        assert "\n" not in str(caught.value)
    for ignored in (nan, minus):
        agent.predict(states(), ignored, np.ones(5))
    with pytest.raises(ValueError, match=r"^observation: got shape \(0, 1\), expected a row or mo"):
        agent.predict(states()[:0])


def test_a_state_of_other_modes_is_refused() -> None:
    """In either direction."""
    one, two = (
        MPC("gaussian", Walk(), **{**TINY, "planner_kwargs": {**PLANNER, "modes": modes}})
        for modes in (1, 2)
    )
    for agent, other in ((one, two), (two, one)):
        _, state = other.predict(states())
        with pytest.raises(ValueError, match=r"state: got a plan of shapes .* modes="):
            agent.predict(states(), state)
