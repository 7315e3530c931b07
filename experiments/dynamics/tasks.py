"""The tasks of `dynamics`: their data, their scores, and the best possible scores.

A task gives transitions, fits a model and returns numbers by name; `Measure` says what a number is
and what the truth scores. A validation variant draws new data, for choosing settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaerl.dynamics import DynamicsModel, predict, roll_out
from vaerl.envs.acrobot import RawAcrobotEnv
from vaerl.envs.bimodal_wind import MOVES, BimodalWindEnv
from vaerl.envs.fork import ForkEnv
from vaerl.envs.ghost_grid import SIDE, GhostGridEnv
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.moerland_toy import MoerlandToyEnv
from vaerl.envs.noisy_pendulum import HiddenFrictionEnv, RandomPushEnv
from vaerl.envs.wet_chicken import WetChickenEnv
from vaerl.experiments.dynamics import control, planning, scores
from vaerl.experiments.dynamics.episodes import friction_score, record_episodes
from vaerl.experiments.dynamics.models import (
    EVERYWHERE,
    MODELS,
    Budget,
    Model,
    blurred,
    learn,
    make_world,
    observe,
)
from vaerl.planning import SimulatorModel

TEST_SEED, VALIDATION_SEED = 7_919, 15_485_863  # training draws are made under neither
FAN_STEPS, FAN_PARTICLES = 30, 60


class Measure(NamedTuple):
    """One row of the table: a number, the score of a perfect model, and the goal."""

    key: str
    label: str
    reference: str
    goal: str = ""
    digits: int = 3


class Scored(NamedTuple):
    """Numbers by name, and data for pictures."""

    numbers: dict[str, float]
    pictures: dict[str, Tensor]


class Setting(NamedTuple):
    """One cell to be run."""

    task: Task
    model: Model
    budget: Budget
    seed: int
    validation: bool


@dataclass(frozen=True)
class Task:
    """A question to a model; `measure` fits and scores it.

    Args:
        measure: fits and scores one cell.
        measures: the rows of the table.
        budget: of every model.
        seeds: how many, from 0 on.
        models: names of those that are asked.
        heads: further options of a model's density, by the model's name without "-x5".
        make_env: the environment, where its law is known.
        features: function of a state that the models see in its place.
        plan: the value of planning in a model, times `scale`.
        radius: how far from a mode its draws may lie.
        test_rows: transitions that the scores are of.
    """

    measure: Callable[[Setting], Scored]
    measures: tuple[Measure, ...]
    budget: Budget
    seeds: int = 5
    models: tuple[str, ...] = EVERYWHERE
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    make_env: Callable[[], KnownLawEnv] | None = None
    features: Callable[[Tensor], Tensor] | None = None
    plan: Callable[[DynamicsModel, torch.Generator], float] | None = None
    radius: float = float("inf")
    test_rows: int = 5000
    scale: float = 1.0

    def settings(self, name: str) -> Model:
        """A model by name, with what the task adds to its density."""
        model = MODELS[name]
        added = self.heads.get(name.removesuffix("-x5"), {})
        return replace(model, options={**model.options, **added})

    def env(self) -> KnownLawEnv:
        """The environment, for tasks that have a known law."""
        assert self.make_env is not None, "only tasks with a known law ask for it"
        return self.make_env()


def measure_law(setting: Setting) -> Scored:
    """NLL, calibration, distances to the true law, and what a plan in the model is worth."""
    task, budget, seed = setting.task, setting.budget, setting.seed
    env = task.env()
    base = VALIDATION_SEED if setting.validation else 0
    data = observe(env, budget.transitions, np.random.default_rng([base, seed]))
    torch.manual_seed(seed)
    world = make_world(env, setting.model, features=task.features)
    learn(world, setting.model, data, budget, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    rng = np.random.default_rng([TEST_SEED + base, seed])
    clean = observe(env, task.test_rows, rng)
    test = blurred(clean, budget.noise, generator) if budget.noise else clean
    numbers = {"nll": scores.nll(world, test)}
    numbers["calibration"], values = scores.calibration(env, world, test, generator)
    numbers |= scores.law_scores(
        env,
        world,
        env.random_pairs(scores.PAIRS, rng),
        noise=budget.noise,
        radius=task.radius,
        generator=generator,
    )
    if task.plan is not None:
        numbers["plan"] = task.plan(world, generator) * task.scale
    pictures = dict(scores.looks(env, world, values, budget.noise, generator)._asdict())
    return Scored(numbers, pictures | _fan(env, world, generator))


def measure_grid(setting: Setting) -> Scored:
    """The histogram scores of the ghost grid, and planning by value iteration over all states."""
    env, task, seed = setting.task.env(), setting.task, setting.seed
    base = VALIDATION_SEED if setting.validation else 0
    data = observe(env, setting.budget.transitions, np.random.default_rng([base, seed]))
    torch.manual_seed(seed)
    world = make_world(env, setting.model, features=task.features)
    learn(world, setting.model, data, setting.budget, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    rng = np.random.default_rng([TEST_SEED + base, seed])
    states, actions = env.random_pairs(task.test_rows, rng)
    truth = env.transition_distribution(states, actions).sample(scores.DRAWS, rng)
    s, a = scores.as_tensors(states, actions)
    draws = predict(world, s, a, scores.DRAWS, generator)
    found = scores.histogram_scores(truth, np.rint(draws.numpy()) + 0.0)
    numbers = {"kl": found.kl, "inverse_kl": found.inverse_kl, "hellinger": found.hellinger}
    if task.plan is not None:
        numbers["plan"] = task.plan(world, generator)
    noise = 0.0 if world.whole else setting.budget.noise
    test = blurred(observe(env, scores.PIT_ROWS, rng), noise, generator)
    numbers["calibration"], values = scores.calibration(env, world, test, generator)
    return Scored(numbers, dict(scores.looks(env, world, values, 0.0, generator)._asdict()))


def measure_friction(setting: Setting) -> Scored:
    """NLL per step of whole episodes, whose friction nobody sees."""
    env, budget, seed = setting.task.env(), setting.budget, setting.seed
    base = VALIDATION_SEED if setting.validation else 0
    assert isinstance(env, HiddenFrictionEnv)
    episodes = max(2, budget.transitions // 200)
    data = record_episodes(env, episodes, min(200, budget.transitions // episodes), [base, seed])
    torch.manual_seed(seed)
    world = make_world(env, setting.model)
    learn(world, setting.model, data, budget, seed)
    count = max(2, setting.task.test_rows // 200)
    test = record_episodes(env, count, min(200, budget.transitions), [TEST_SEED + base, seed])
    numbers = {"nll": friction_score(world, test)}
    generator = torch.Generator().manual_seed(seed + 1)
    numbers["calibration"], values = scores.calibration(env, world, test, generator)
    pictures = dict(scores.looks(env, world, values, 0.0, generator)._asdict())
    return Scored(numbers, pictures | _fan(env, world, generator))


def _fan(env: KnownLawEnv, world: DynamicsModel, generator: torch.Generator) -> dict[str, Tensor]:
    """Paths of particles under fixed actions, in the model and in the truth, ``(T, n, S)``."""
    rng = np.random.default_rng(5)
    state = env.start_states(1, rng)[0]
    actions = env.random_pairs(FAN_STEPS, rng)[1]
    s, a = scores.as_tensors(state, actions)
    if isinstance(env, ForkEnv | MoerlandToyEnv):
        return {}
    steps = MOVES if isinstance(env, BimodalWindEnv) else FAN_STEPS
    a = a[:steps]
    return {
        "fan": roll_out(world, s, a, FAN_PARTICLES, generator).contiguous(),
        "fan_truth": roll_out(SimulatorModel(env), s, a, FAN_PARTICLES, generator).contiguous(),
    }


def cells_one_hot(states: Tensor) -> Tensor:
    """Six coordinates of 7 cells each as 42 indicators, for the ghost grid."""
    whole = states.round().long().clamp(0, SIDE - 1)
    return torch.nn.functional.one_hot(whole, SIDE).flatten(-2).to(states)


def clock_one_hot(states: Tensor) -> Tensor:
    """(t, y, v) with the clock as indicators of its times, for BimodalWind."""
    clock = states[..., 0].round().long().clamp(0, MOVES)
    times = torch.nn.functional.one_hot(clock, MOVES + 1).to(states)
    return torch.cat((times, states[..., 1:]), dim=-1)


_SHAPE = (
    Measure("calibration", "distance of PIT from uniform", "0"),
    Measure("energy", "energy distance, standardised", "0"),
    Measure("coverage", "mode coverage", "1"),
    Measure("spurious", "spurious mass", ".01"),
)

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "toy": Task(
            measure_law,
            (Measure("nll", "NLL", "−.354 (best Gaussian .868)", "≤ −.28"), *_SHAPE),
            Budget(2000, 2000),
            make_env=MoerlandToyEnv,
            seeds=10,
        ),
        "ghost-grid": Task(
            measure_grid,
            (
                Measure("kl", "KL", ".031 (best Gaussian 1.565)", "≤ .15"),
                Measure("inverse_kl", "inverse KL", ".031 (best Gaussian 5.640)"),
                Measure("hellinger", "Hellinger", ".081 (best Gaussian .689)", "≤ .15"),
                Measure("plan", "planned return", "8.78 (random −.58)", "≥ 8.5"),
            ),
            Budget(240_000, 8000, noise=0.1),
            seeds=3,
            heads={
                "gaussian": {"whole": True},
                "mixture": {"whole": True, "components": 32, "hidden": (256, 256)},
                "cvae": {
                    "whole": True,
                    "latent_dims": (4,),
                    "prior_components": 16,
                    "hidden": 128,
                },
            },
            make_env=GhostGridEnv,
            features=cells_one_hot,
            plan=planning.ghost_grid_return,
            test_rows=1500,
        ),
        "wet-chicken": Task(
            measure_law,
            (
                Measure("nll", "NLL at σ = .05", "−.896 (best Gaussian .565)", "≤ −.75"),
                Measure("plan", "planned return a step", "−2.32 (best Gaussian −2.51)"),
                *_SHAPE,
            ),
            Budget(2500, 3000, noise=0.05, copies=8),
            make_env=WetChickenEnv,
            plan=planning.wet_chicken_return,
            radius=0.2,
        ),
        "fork": Task(
            measure_law,
            (
                Measure("plan", "regret of the choice, %", "0 (unimodal 99.8)", "≤ 5", 1),
                *_SHAPE,
            ),
            Budget(500, 600, noise=0.02),
            make_env=ForkEnv,
            plan=lambda world, generator: 0.2 - planning.fork_return(world, generator),
            scale=100.0 / 0.2,
            seeds=10,
            test_rows=2000,
        ),
        "bimodal-wind": Task(
            measure_law,
            (
                Measure("plan", "regret of the plan, %", "0 (value .575)", "≤ 5", 1),
                Measure("nll", "NLL", "−6.350"),
                *_SHAPE,
            ),
            Budget(20_000, 6000, blur=1.0),
            make_env=BimodalWindEnv,
            features=clock_one_hot,
            plan=lambda world, generator: 0.575 - planning.wind_return(world, generator),
            scale=100.0 / 0.575,
        ),
        "random-push": Task(
            measure_law,
            (Measure("nll", "NLL", "−2.099 (best Gaussian .165)", "≤ −2.05"), *_SHAPE),
            Budget(20_000, 3000),
            make_env=RandomPushEnv,
        ),
        "hidden-friction": Task(
            measure_friction,
            (
                Measure("nll", "NLL a step", "−2.490 (a fair mixture −2.152)", "held below drawn"),
                _SHAPE[0],
            ),
            Budget(40_000, 3000),
            make_env=HiddenFrictionEnv,
            models=(*EVERYWHERE, "cvae-episode"),
            test_rows=10_000,
        ),
        "acrobot": Task(
            lambda s: Scored(control.acrobot(s.model, s.budget, s.seed), {}),
            (Measure("plan", "return a step", "2.127 (random .124)", "≥ 2.02"),),
            Budget(5000, 10_000, blur=1.0),
            seeds=5,
            make_env=RawAcrobotEnv,
            models=(*EVERYWHERE, "cvae-latents-8"),
        ),
        "pendulum": Task(
            lambda s: Scored(control.inverted_pendulum(s.model, s.budget, s.seed), {}),
            (
                Measure("plan", "return of the last policy (MBPO)", "1000", "1000", 0),
                Measure("reached", "real steps to the first 1000", "", "≤ 5000", 0),
            ),
            Budget(5000, 500),
            seeds=3,
        ),
        "deterministic": Task(
            lambda s: Scored(control.pendulum(s.model, s.budget, s.seed), {}),
            (Measure("plan", "return, Pendulum-v1", "", "within 5 % of gaussian-x5", 1),),
            Budget(5000, 3000),
            seeds=3,
        ),
    }
)


def debug_task(task: Task) -> Task:
    """The same with next to no budget, to run whole in seconds."""
    budget = task.budget
    small = replace(
        budget,
        transitions=min(budget.transitions, 400),
        steps=10,
        batch_size=32,
        copies=min(budget.copies, 2),
    )
    plan: Any = task.plan
    if task.plan is planning.ghost_grid_return:
        plan = None  # value iteration over all states takes its time
    elif task.plan is planning.wet_chicken_return:
        plan = lambda world, generator: planning.wet_chicken_return(  # noqa: E731
            world, generator, points=9, draws=4, episodes=50
        )
    return replace(task, budget=small, plan=plan, test_rows=min(task.test_rows, 200))
