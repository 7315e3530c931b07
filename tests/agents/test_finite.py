"""A number that is not finite stops every agent at once, and the error says which and where."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import Env, spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from vaerl.agents import A2C, BC, IDQL, IQL, MBPO, MPC, PLAS, PPO, SAC
from vaerl.agents.finite import CheckFinite
from vaerl.data import Demonstrations
from vaerl.disk.errors import NotFinite
from vaerl.policies import ActorCriticPolicy

TINY = {"net_arch": [8]}
START = 20  # random steps
LEARNERS: dict[str, Any] = {
    "sac": lambda env: SAC(
        "cvae", env, learning_starts=START, batch_size=8, buffer_size=200, policy_kwargs=TINY
    ),
    "ppo": lambda env: PPO("cvae", env, n_steps=10, batch_size=20, n_epochs=2, policy_kwargs=TINY),
    "a2c": lambda env: A2C("cvae", env, n_steps=5, policy_kwargs=TINY),
    "sb3-a2c": lambda env: sb3.A2C(ActorCriticPolicy, env, n_steps=5, policy_kwargs=dict(TINY)),
    "mpc": lambda env: MPC("gaussian", env, **{**MPC.debug_options, "learning_starts": START}),
    "mbpo": lambda env: MBPO(
        "gaussian",
        env,
        **{**MBPO.debug_options, "learning_starts": START},
        dynamics="gaussian",
        policy_kwargs=TINY,
    ),
}
CLONERS: dict[str, Any] = {
    "bc": (BC, {"chunk": 1}),
    "iql": (IQL, {}),
    "idql": (IDQL, {}),
    "plas": (PLAS, {"cloning": 0.1}),
}


class Faulty(Env[np.ndarray, np.ndarray]):
    """Episodes of 7 steps; one copy gives one wrong number at its step `at`."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Box(-1.0, 1.0, (2,))
    steps = 0

    def __init__(self, site: str = "", at: int = 0, value: float = math.nan) -> None:
        self.site, self.at, self.value = site, at, value

    def _observation(self, *sites: str) -> np.ndarray:
        row = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        if self.site in sites and self.steps >= self.at:
            row[1] = self.value
        return row

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observation("reset"), {}

    def step(self, action: np.ndarray) -> Any:
        self.steps += 1
        over = self.steps % 7 == 0
        reward = self.value if (self.site, self.steps) == ("reward", self.at) else -abs(action[0])
        row = self._observation("observation", *(["terminal"] if over else []))
        return row, float(reward), False, over, {}


def make(name: str, site: str = "", at: int = 0, value: float = math.nan, copies: int = 2) -> Any:
    """An agent in copies of the environment, of which the last one is at fault."""
    torch.manual_seed(0)
    faults = [("", 0, 0.0)] * (copies - 1) + [(site, at, value)]
    return LEARNERS[name](DummyVecEnv([lambda f=f: Faulty(*f) for f in faults]))


def learn(agent: Any, steps: int = 200) -> Any:
    return agent.learn(steps, callback=CheckFinite() if type(agent) is sb3.A2C else None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("site", "words"),
    [
        ("observation", r"observation\[1\]"),
        ("terminal", r"terminal observation\[1\]"),
        ("reset", r"observation\[1\]"),
        ("reward", "reward"),
    ],
)
@pytest.mark.parametrize("name", LEARNERS)
def test_what_the_environment_gives(name: str, site: str, words: str, value: float) -> None:
    """Named at that step of that copy, with the number before it."""
    at = 28 if site in ("terminal", "reset") else 29  # episodes end at 28; updates have begun
    agent = make(name, site, at, value)
    shown = {"nan": "NaN"}.get(str(value), str(value))
    with pytest.raises(NotFinite, match=rf"^step {2 * at}: env 1: {words} is {shown}, ") as caught:
        learn(agent)
    assert "the last finite value was " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["sac", "ppo", "mpc"])
def test_the_first_observation(name: str) -> None:
    with pytest.raises(NotFinite, match=r"^step 0: env 1: observation\[1\] is NaN, expected "):
        learn(make(name, "reset", 0))


def after(agent: Any, steps: int) -> Any:
    """The agent after some steps without a fault."""
    return learn(agent, steps)


def spoil(parameter: torch.Tensor) -> None:
    with torch.no_grad():
        parameter.view(-1)[0] = math.nan


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "sb3-a2c"])
def test_a_parameter(name: str) -> None:
    """It is named at the first step that uses it."""
    agent = after(make(name), 2 * START + 20)
    label, parameter = next(
        (n, p) for n, p in agent.policy.named_parameters() if p.ndim > 1 and "recogn" not in n
    )
    spoil(parameter)
    begun = agent.num_timesteps
    with pytest.raises(NotFinite, match=rf"parameter policy\.{label} is not finite"):
        agent.learn(20, reset_num_timesteps=False)
    assert agent.num_timesteps - begun <= 2


@pytest.mark.parametrize("name", ["sac", "ppo", "a2c", "mbpo"])
def test_a_gradient(name: str) -> None:
    """It is refused before the optimizer takes it: the parameters stay finite."""
    agent = after(make(name), 2 * START + 20)
    label, parameter = next(
        (n, p) for n, p in agent.policy.named_parameters() if p.ndim == 1 and p.requires_grad
    )
    parameter.register_hook(lambda gradient: gradient * math.nan)
    clipped = name in ("ppo", "a2c")  # the norm of all gradients is then NaN too
    with pytest.raises(NotFinite, match=rf"gradient of policy\.{'' if clipped else label}"):
        agent.learn(100, reset_num_timesteps=False)
    assert all(bool(torch.isfinite(p).all()) for p in agent.policy.parameters())


@pytest.mark.parametrize(("name", "site"), [("sac", "critic_loss"), ("ppo", "value_loss")])
def test_a_loss(name: str, site: str) -> None:
    """A finite reward whose square is not: the loss is named at that step."""
    agent = make(name, "reward", 25, 1e30)
    with pytest.raises(NotFinite, match=rf"^step \d+: loss {site} is inf, ") as caught:
        learn(agent)
    assert caught.value.step is not None and caught.value.step >= 50
    assert "the last finite value was " in str(caught.value) or name == "sac"


def test_a_loss_of_the_model() -> None:
    """Of all members; the model and the planner are named."""
    agent = after(make("mpc"), 2 * START + 20)
    spoiled = agent.world.networks["density"]
    for parameter in spoiled.parameters():
        spoil(parameter)
        parameter.data.fill_(math.nan)
    with pytest.raises(NotFinite, match=r"^step \d+: model: the best return is NaN, .*parameter "):
        agent.learn(10, reset_num_timesteps=False)


ROWS = np.random.default_rng(0).normal(size=(31, 3)).astype(np.float32)
DATA = Demonstrations.from_arrays(
    [ROWS], [np.clip(ROWS[1:, :2], -1, 1)], rewards=[ROWS[1:, 0].astype(np.float64)]
)


@pytest.mark.parametrize("site", ["loss", "gradient", "parameter"])
@pytest.mark.parametrize("name", CLONERS)
def test_agents_that_learn_from_data(name: str, site: str) -> None:
    cls, options = CLONERS[name]
    agent = cls("cvae", data=DATA, batch_size=8, policy_kwargs=TINY, **options).learn(4)
    learner = getattr(agent, "learner", agent.policy)
    density = [p for p in learner.density.parameters() if p.requires_grad]
    if site == "gradient":
        density[1].register_hook(lambda gradient: gradient * math.nan)
        words = r"gradient of policy\..* is NaN|gradient of learner\..* is NaN"
    elif site == "parameter":
        spoil(next(learner.parameters()))
        words = "parameter .* is not finite"
    else:
        given = learner.density.loss
        learner.density.loss = lambda *a, **k: (lambda found: (found[0] * math.inf, found[1]))(
            given(*a, **k)
        )
        words = "loss .* is (NaN|-?inf)"
    with pytest.raises(NotFinite, match=words) as caught:
        agent.learn(10, reset_num_timesteps=name == "plas")
    assert caught.value.step is not None


@pytest.mark.parametrize("name", ["sac", "ppo", "mpc"])
def test_a_large_observation_is_named_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing scales it, with its place and size."""
    with contextlib.suppress(NotFinite):
        learn(make(name, "reset", 0, -3e4), 60)
    said = capsys.readouterr().err
    words = "env 1: observation[1] is -30000, beyond 10000 in size, where networks diverge; scale "
    assert said.count(words) == said.count("in size") == (name != "mpc")
    learn(make(name), 30)
    assert not capsys.readouterr().err


class Counting(Faulty):
    """Observations with a count beside the box: a plain int, which is a value of Discrete."""

    observation_space = spaces.Dict(box=Faulty.observation_space, count=spaces.Discrete(7))  # type: ignore[assignment]

    def _observation(self, *sites: str) -> Any:
        return {"box": super()._observation(*sites), "count": self.steps % 7}


@pytest.mark.parametrize("name", ["sac", "ppo", "a2c"])
def test_a_count_that_is_no_array(name: str) -> None:
    """Episodes may end with one, and a number beside it that is not finite is still named."""
    learn(LEARNERS[name](DummyVecEnv([Counting] * 2)), 80)
    faulty = DummyVecEnv([lambda: Counting("terminal", 28)])
    with pytest.raises(NotFinite, match=r"^step 28: env 0: terminal observation 'box'\[1\] is NaN"):
        learn(LEARNERS[name](faulty))
