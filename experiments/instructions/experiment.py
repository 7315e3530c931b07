"""Does a policy obey instructions, also combinations of words that it never met in training?

Protocol. `vaerl/ColouredGoals-v0` with `combinations="training"`: four combinations of colour and
side are neither asked for nor shown; half of the instructions give both words, a quarter the colour
alone ("go to the red goal"), a quarter the side alone. The same policy over a density with two ways
of looking: "words" reads the instruction (`vaerl.policies.instructions.InstructionExtractor`), "no
words" sees everything but the instruction. The density is fitted to demonstrations of the way
straight to the goal, or learned by `vaerl.agents.SAC`. After that, deterministic episodes: the
share that ends at the goal asked for, over each kind of instruction of training and over
combinations held out. A policy that ignores the words obeys one time in eight, or in four where one
word is given.

Files: out/cells/, out/results.json (the table), out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from time import process_time
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import FilterObservation
from stable_baselines3.common.preprocessing import preprocess_obs

import vaerl.envs
from vaerl.agents import SAC
from vaerl.densities import density_names
from vaerl.densities.options import check_positive, check_seed
from vaerl.envs.coloured_goals import STEP
from vaerl.experiments.instructions.figures import draw_figures
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.lab.ticks import Ticks
from vaerl.names import check_name
from vaerl.policies.instructions import InstructionExtractor

ENV = "vaerl/ColouredGoals-v0"
POLICIES = ("words", "no words")
KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "both words": ("training", "both"),
        "colour alone": ("training", "colour"),
        "side alone": ("training", "side"),
        "held out": ("held-out", "both"),
    }
)
"""Combinations and words of the episodes that measure a policy, by the column of the table."""
SHOWN = 2  # episodes of each kind in the picture


@dataclass(frozen=True)
class Preset:
    """Budget of one training and of its evaluation."""

    #: episodes that are demonstrated, and updates on them
    demonstrations: int
    updates: int
    #: of SAC
    steps: int
    learning_starts: int
    seeds: tuple[int, ...]
    episodes: int


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(1_200, 2_500, 10_000, 200, (0, 1, 2), 200),
        "debug": Preset(5, 10, 60, 20, (0,), 5),
    }
)
LEARNERS = ("demonstrations", "sac")
FIT_RATE, FIT_BATCH = 3e-3, 64
MIDDLE = 0.6  # half side of the square in which demonstrations start
SETTINGS: Mapping[str, Any] = MappingProxyType(
    {"batch_size": 128, "gamma": 0.8, "ent_coef": 0.02, "learning_rate": 1e-3, "tau": 0.02}
)


def run(
    out: Path,
    preset: str = "full",
    seeds: list[int] | None = None,
    policies: list[str] | None = None,
    density: str = "cvae",
    learner: str = "demonstrations",
    threads: int = 1,
) -> Path:
    """Train the unfinished cells, print the table, draw the picture; return results.json.

    Args:
        out: folder of the results; finished cells found there are reused, those of other settings
            refused.
        preset: "full", or "debug", which runs whole in seconds.
        seeds: the preset's own if None.
        policies: "words" and "no words", both if None.
        density: of the policy.
        learner: "demonstrations" or "sac".
        threads: of the numerical libraries.
    """
    budget = PRESETS[check_name("preset", preset, PRESETS)]
    names = [check_name("policy", name, POLICIES) for name in policies or POLICIES]
    check_name("density", density, density_names())
    check_name("learner", learner, LEARNERS)
    check_positive("threads", threads)
    chosen = [check_seed("seeds", seed) for seed in seeds or budget.seeds]
    cells = [Training(name, seed, density, learner, budget) for name in names for seed in chosen]
    options = {
        "preset": preset, "seeds": seeds, "policies": policies, "density": density,
        "learner": learner,
    }  # fmt: skip
    command = command_line("instructions", run, options)
    return INSTRUCTIONS.run(cells, out, command=command, threads=threads)


@dataclass(frozen=True)
class Training(Cell):
    """One policy, trained and measured."""

    policy: str
    seed: int
    density: str
    learner: str
    budget: Preset

    @property
    def name(self) -> str:
        """Such as no-words-s0."""
        return f"{self.policy.replace(' ', '-')}-s{self.seed}"

    @property
    def work(self) -> float:
        """Steps of SAC, or updates."""
        return float(self.budget.steps if self.learner == "sac" else self.budget.updates)


def make_env(policy: str, combinations: str, asks: str = "mixed") -> gymnasium.Env[Any, Any]:
    """The environment as that policy sees it."""
    vaerl.envs.register_envs()
    env = gymnasium.make(ENV, combinations=combinations, asks=asks)
    if policy == "words":
        return env
    return FilterObservation(env, ["position", "goals", "colours"])


def make_agent(policy: str, density: str, budget: Preset, seed: int) -> SAC:
    """The untrained agent."""
    kwargs: dict[str, Any] = {"net_arch": [64, 64]}
    if policy == "words":
        kwargs["features_extractor_class"] = InstructionExtractor
        kwargs["features_extractor_kwargs"] = {"things": "goals", "labels": "colours", "count": 8}
    return SAC(
        density,
        make_env(policy, "training"),
        seed=seed,
        learning_starts=budget.learning_starts,
        buffer_size=budget.steps,
        policy_kwargs=kwargs,
        device="cpu",
        **SETTINGS,
    )


def measure(cell: Training, desk: Desk) -> Measured:
    """Train and evaluate one policy."""
    policy, seed, budget = cell.policy, cell.seed, cell.budget
    start = process_time()
    agent = make_agent(policy, cell.density, budget, seed)
    if cell.learner == "sac":
        agent.learn(budget.steps, callback=Ticks(desk.tick))
    else:
        shown = demonstrate(policy, budget.demonstrations, seed)
        fit(agent, *shown, budget.updates, seed, desk.tick)
    minutes = (process_time() - start) / 60.0
    kinds = {}
    for kind in KINDS:
        obeyed, seen = obedience(agent, policy, kind, budget.episodes, seed)
        kinds[kind] = {"obeyed": obeyed, "shown": seen}
    return Measured({"minutes": minutes, **kinds})


def demonstrate(policy: str, episodes: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Observations and actions of an expert that goes straight to the goal asked for, with noise.

    Episodes start anywhere in the middle, so that where the point is does not tell which goal it is
    on its way to. Actions keep off the border of the box, where a squashed density has no density
    to speak of.
    """
    env = make_env(policy, "training")
    inner: Any = env.unwrapped
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    observation, _ = env.reset(options={"start": rng.uniform(-MIDDLE, MIDDLE, 2)})
    rows: list[Any] = []
    actions = []
    while episodes > 0:
        way = inner.goal_positions[inner.target] - inner.position
        action = 0.85 * way / max(STEP, float(np.abs(way).max())) + 0.04 * rng.normal(size=2)
        rows.append(observation)
        actions.append(np.clip(action, -0.98, 0.98).astype(np.float32))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            observation, _ = env.reset(options={"start": rng.uniform(-MIDDLE, MIDDLE, 2)})
            episodes -= 1
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}, np.stack(actions)


def fit(
    agent: SAC,
    observations: Mapping[str, np.ndarray],
    actions: np.ndarray,
    updates: int,
    seed: int,
    tick: Any,
) -> None:
    """Fit the agent's density to demonstrations: its own loss, over features, trunk and density."""
    actor: Any = agent.actor
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(actor.parameters(), FIT_RATE)
    seen = {key: torch.as_tensor(value) for key, value in observations.items()}
    done = torch.as_tensor(actions)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for update in range(updates):
        pick = torch.randint(len(done), (FIT_BATCH,), generator=generator)
        context = actor.context({key: value[pick] for key, value in seen.items()})
        loss, _ = actor.density.loss(context, done[pick], diagnostics=False, generator=generator)
        optimiser.zero_grad()
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(actor.parameters(), 10.0)
        optimiser.step()
        falling.step()
        tick(update + 1)


def obedience(
    agent: SAC, policy: str, kind: str, episodes: int, seed: int
) -> tuple[float, list[dict[str, Any]]]:
    """Share of deterministic episodes that end at the goal asked for, and what the first did."""
    env = make_env(policy, *KINDS[kind])
    obeyed, shown = 0, []
    for episode in range(episodes):
        observation, info = env.reset(seed=1_000 * seed + episode)
        trace, done = [info["position"].tolist()], False
        while not done:
            action = agent.predict(observation, deterministic=True)[0]
            observation, _, terminated, truncated, info = env.step(action)
            trace.append(info["position"].tolist())
            done = terminated or truncated
        obeyed += bool(info["is_success"])
        if episode < SHOWN:
            inner: Any = env.unwrapped
            shown.append({"words": inner.words, "colours": inner.colours, "trace": trace})
            if policy == "words":
                shown[-1]["heard"] = heard(agent, observation)
    return obeyed / episodes, shown


@torch.no_grad()
def heard(agent: SAC, observation: Mapping[str, np.ndarray]) -> list[float]:
    """How far the policy hears each word of the instruction, between 0 and 1."""
    extractor: Any = agent.actor.features_extractor
    rows = {key: torch.as_tensor(value).unsqueeze(0) for key, value in observation.items()}
    space: Any = agent.observation_space
    return extractor.point(preprocess_obs(rows, space))[2][0].tolist()


def assemble(results: Results) -> dict[str, Any]:
    """The table: obedience to each kind of instruction, mean and interval over seeds."""
    rows = []
    for name in dict.fromkeys(result.cell["policy"] for result in results):
        own = [result.data for result in results if result.cell["policy"] == name]
        shares = (interval([data[kind]["obeyed"] for data in own], 3) for kind in KINDS)
        rows.append([name, str(len(own)), *shares, f"{mean(d['minutes'] for d in own):.1f}"])
    cell = results[0].cell
    sac = {"sac": dict(SETTINGS)} if cell["learner"] == "sac" else {}
    return {
        "title": "Does a policy obey instructions",
        "caption": (
            f"Share of {cell['budget']['episodes']} deterministic episodes that end at the goal "
            "asked for, mean with the 95 % interval (Student's t) over seeds; ignoring the words "
            "gives 1/8 at most, or 1/4 where one word is said."
        ),
        "columns": ["policy", "seeds", *KINDS, "CPU minutes"],
        "rows": rows,
        "data": {
            f"{r.cell['policy']} seed {r.cell['seed']}": {k: r.data[k]["obeyed"] for k in KINDS}
            for r in results
        },
        "settings": {
            "env": ENV,
            **{key: cell[key] for key in ("density", "learner", "budget")},
            **sac,
        },
    }


INSTRUCTIONS = Experiment(measure, assemble, lambda results, out: draw_figures(results, KINDS, out))
