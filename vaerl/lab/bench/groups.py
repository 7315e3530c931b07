"""The comparisons, one function per group: it builds the rivals and their pieces of work.

Agents and models live on `device`, as torch names it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from vaerl.lab.bench.rivals import (
    BF16,
    CVAE,
    GAUSSIAN,
    PPO_CVAE,
    PPO_DENSITIES,
    PPO_STEPS,
    SB3,
    SBX,
    START,
    TASK,
    TORCH,
    by_critic,
    in_bfloat16,
    make_ppo,
    make_sac,
    off_policy,
)
from vaerl.lab.bench.simulators import simulators
from vaerl.lab.bench.timing import Case, Goal, Group


def sac(device: str) -> Group:
    """Whole `learn()` with default networks, batches of 256, one update a step."""
    options: dict[str, Any] = {"buffer_size": 10_000, "learning_starts": START}
    agents, missing = off_policy(device, **options)
    agents |= in_bfloat16(device, **options)
    steps = 25
    for agent in agents.values():
        agent.learn(START + steps)
    cases = _learning(agents, steps)
    one = torch.get_num_threads() == 1
    goals = [Goal(CVAE, 1.9 if one else 2.5, SB3), Goal(CVAE + BF16, 2.4 if one else 3.0, SB3)]
    goals += [] if one else [Goal(GAUSSIAN, 2.5, SB3)]
    if SBX in agents and not one:
        goals.append(Goal(CVAE, 1.3, SBX))
    return Group("sac", f"SAC, learn() on {TASK}", "environment step", cases, goals, missing)


def update(device: str) -> Group:
    """The update alone: `train()` on a full buffer, without environment; ours also in torch."""
    options: dict[str, Any] = {"buffer_size": 2_000, "learning_starts": START}
    agents, missing = off_policy(device, sbx=False, **options)
    agents |= in_bfloat16(device, **options)
    agents |= {
        name + TORCH: make_sac(device, name, native=False, **options) for name in (GAUSSIAN, CVAE)
    }

    def train(agent: Any) -> None:
        if not agent.num_timesteps:  # in the round that warms up, where it is measured at all
            agent.learn(START + 1)
        agent.train(10, batch_size=256)

    cases = [Case(name, partial(train, agent), 10) for name, agent in agents.items()]
    goals = [Goal(name, 1.2, name + TORCH) for name in (GAUSSIAN, CVAE)]
    if device != "cpu":
        goals = [Goal(CVAE, 5.0, SB3)]
    return Group("update", "SAC, train() alone", "update", cases, goals, missing)


def critics(device: str) -> Group:
    """The update of a Gaussian by critic."""
    agents, missing = by_critic(device, buffer_size=1_000, learning_starts=START)
    cases = [
        Case(name, partial(made.learn(START + 1).train, 12, 256), 12)
        for name, made in agents.items()
    ]
    goals = [Goal(name, 1.2, name + TORCH) for name in ("crossq", "simba")]
    goals += [Goal(name + BF16, 1.2, name) for name in ("crossq", "xqc", "flash", "simba")]
    goals = goals if device == "cpu" else []  # a GPU has neither
    return Group("critics", "SAC, train() by critic", "update", cases, goals, missing)


def acting(rows: int, deterministic: bool, device: str) -> Group:
    """`predict` on a batch of observations."""
    agents, missing = off_policy(device, sbx=False, buffer_size=10)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows, *agents[SB3].observation_space.shape))

    def predict(agent: Any) -> None:
        for _ in range(40):
            agent.predict(obs, deterministic=deterministic)

    kind = "best" if deterministic else "drawn"
    goals = [Goal(CVAE, 1.0, SB3)] if rows == 1 else []
    return Group(
        f"acting-{rows}-{kind}",
        f"predict(), {rows} observation{'s' * (rows > 1)}, action {kind}",
        "call",
        [Case(name, partial(predict, agent), 40) for name, agent in agents.items()],
        goals,
        missing,
    )


def ppo(device: str) -> Group:
    """Rollout and update: 512 steps, 10 epochs of batches of 64, 32 codes."""
    from stable_baselines3 import PPO as SB3PPO

    agents: dict[str, Any] = {
        SB3: SB3PPO("MlpPolicy", TASK, n_steps=PPO_STEPS, seed=0, device=device)
    }
    agents |= {name: make_ppo(device, name) for name in PPO_DENSITIES}
    goals = [Goal(PPO_CVAE, 1.2, SB3)]
    cases = _learning(agents, PPO_STEPS)
    return Group("ppo", f"PPO, learn() on {TASK}", "environment step", cases, goals)


def _learning(agents: Mapping[str, Any], steps: int) -> list[Case]:
    """Training each agent for some steps more."""
    return [
        Case(name, partial(agent.learn, steps, reset_num_timesteps=False), steps)
        for name, agent in agents.items()
    ]


def fitting(device: str) -> Group:
    """Loss, gradient and a step of Adam for one CVAE, by the native library and in torch."""
    from vaerl.densities import make_density

    def case(name: str, native: bool, rows: int, context: int, event: int, **options: Any) -> Case:
        torch.manual_seed(0)
        density = make_density("cvae", context_dim=context, event_dim=event, **options).to(device)
        optimizer = torch.optim.Adam(density.parameters(), fused=True)
        c, x = (torch.randn(rows, size, device=device) for size in (context, event))

        def update() -> None:
            with patch.dict(os.environ, {} if native else {"VAERL_NATIVE": "0"}):
                for _ in range(10):
                    optimizer.zero_grad()
                    density.loss(c, x, diagnostics=False)[0].mean().backward()
                    optimizer.step()

        return Case(name if native else f"{name}, torch", update, 10)

    kinds: dict[str, dict[str, Any]] = {
        "k=16, 256 rows": {"rows": 256, "context": 17, "event": 6, "k": 16},
        "one narrow block": {"rows": 256, "context": 17, "event": 6, "hidden": 32, "blocks": 1},
        "cloning, 8 actions of 2": {"rows": 128, "context": 64, "event": 16, "k": 4},
    }
    cases = [case(name, native, **kind) for name, kind in kinds.items() for native in (False, True)]
    goals = [Goal(name, 3.0, f"{name}, torch") for name in kinds]
    return Group("fitting", "Fitting a CVAE", "update", cases, goals)


def dynamics(density: str, device: str) -> Group:
    """Fitting an ensemble of five as one batch, against five models one after the other."""
    from vaerl.dynamics import DynamicsModel, FitOptions, Transitions, fit

    torch.manual_seed(0)
    states, actions = torch.randn(2000, 4), torch.rand(2000, 1) * 2 - 1
    data = Transitions(states, actions, states + 0.1 * torch.randn(2000, 4))
    options = FitOptions(steps=20, check_every=20, score_k=2)

    def model(members: int) -> DynamicsModel:
        return DynamicsModel(4, 1, density=density, members=members, reward=None).to(device)

    def fitting(*models: DynamicsModel) -> None:
        for each in models:
            fit(each, data, options)

    alone = [model(1) for _ in range(5)]
    cases = [
        Case(f"{density}, loop over members", partial(fitting, *alone), 20),
        Case(f"{density}, one batch", partial(fitting, model(5)), 20),
    ]
    title = "Fitting five members, with a score of each"
    return Group(f"dynamics-{density}", title, "update", cases)


def planning(device: str) -> Group:
    """iCEM, 64 plans × 8 particles × 15 steps × 3 iterations, cart-pole's sizes, five members; the
    cvae also with products in bfloat16, and where it acts in an episode, each plan begun from the
    last one."""
    from vaerl.dynamics import DynamicsModel
    from vaerl.planning import BoxActions, make_planner

    planner = make_planner(
        "icem", BoxActions([-1.0], [1.0]), horizon=15, population=64, iterations=3, particles=8
    )
    state = torch.zeros(1, 4, device=device)

    def upright(states: torch.Tensor, actions: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return -after[:, 2].abs()

    def plan(model: DynamicsModel) -> None:
        for _ in range(3):
            planner.plan(model, state, reward=upright)

    def case(name: str, density: str, precision: str = "float32", **options: Any) -> Case:
        torch.manual_seed(0)
        model = DynamicsModel(
            4, 1, density=density, density_kwargs=options, members=5, reward=None
        ).to(device)
        model.matmul_precision = precision
        return Case(name, partial(plan, model), 3)

    cases = [case(name, name) for name in ("gaussian", "mixture", "cvae")]
    cases.append(case("cvae" + BF16, "cvae", "bf16"))
    cases.append(case("cvae, light", "cvae", hidden=32, context_hidden=(64,)))
    cases += _swings(device)
    goals = [Goal(case.name, 20.0) for case in cases]
    return Group("planning", "Planning an action with five members", "action", cases, goals)


def _swings(device: str) -> list[Case]:
    """The same planner in a cvae of RandomPush, each plan begun from the last one of an episode."""
    from vaerl.dynamics import DynamicsModel, FitOptions, Transitions, fit
    from vaerl.envs.noisy_pendulum import RandomPushEnv
    from vaerl.planning import Plan, make_planner

    env, rng = RandomPushEnv(), np.random.default_rng(0)
    states, actions = env.random_pairs(4000, rng)
    after: Any = env.step_batch(states, actions, rng).next_states
    torch.manual_seed(0)
    model = DynamicsModel(3, 1, density="cvae", members=5, reward=None)
    data = Transitions(*map(torch.as_tensor, (states, actions, after)))
    fit(model, data, FitOptions(steps=300, learning_rate=3e-3, check_every=300))
    model.to(device)

    def case(name: str, early_stop: bool) -> Case:
        planner = make_planner(
            "icem", env.action_space, horizon=15, population=64, iterations=3, particles=8,
            early_stop=early_stop,
        )  # fmt: skip
        state, plan = env.start_states(1, rng), None

        def act() -> None:
            nonlocal state, plan
            for _ in range(10):
                at = torch.as_tensor(state, dtype=torch.float32, device=device)
                found: Plan = planner.plan(model, at, reward=env.reward, warm=plan)
                action = found.actions[:, 0].double().cpu().numpy()
                state, plan = env.step_batch(state, action, rng).next_states, found

        return Case(name, act, 10)

    return [case("cvae, RandomPush", False), case("cvae, RandomPush, early stop", True)]


def storage(device: str) -> Group:
    """A SAC agent with 10,000 transitions on disk: SB3's zip and pickle, our checkpoint."""
    from vaerl.checkpoint import save_checkpoint

    agents, _ = off_policy(device, sbx=False, buffer_size=10_000, learning_starts=START)
    theirs, ours = agents[SB3], agents[CVAE]
    for agent in (theirs, ours):
        agent.learn(START + 1)
        agent.replay_buffer.full = True
    folder = tempfile.TemporaryDirectory(prefix="vaerl-bench-")
    path = Path(folder.name)

    def sb3(keep: Any = folder) -> None:  # the folder lives as long as the case
        theirs.save(path / "theirs.zip")
        theirs.save_replay_buffer(path / "buffer.pkl")

    vaerl = partial(save_checkpoint, ours, path / "ours", num_timesteps=0, include_replay=True)
    cases = [Case("SB3 save + save_replay_buffer", sb3), Case("vaerl checkpoint", vaerl)]
    return Group("storage", "Writing an agent with 10,000 transitions", "checkpoint", cases)


def imports(device: str) -> Group:
    """A fresh interpreter each time. `import vaerl` loads names only; the agent loads all it needs.

    No device has a part in it.
    """

    def run(*words: str) -> Callable[[], Any]:
        command = [sys.executable, *words]
        return partial(subprocess.run, command, check=True, capture_output=True)

    theirs, whole, ours, agents, agent, shown = (
        "import stable_baselines3",
        "from stable_baselines3 import SAC",
        "import vaerl",
        "import vaerl.agents",
        "from vaerl.agents import SAC",
        "vaerl --help",
    )
    cases = [Case(line, run("-c", line)) for line in (theirs, whole, ours, agents, agent)]
    cases.append(Case(shown, run("-m", "vaerl.cli", "--help")))
    goals = [
        Goal(ours, 1 / 1.2, theirs),
        Goal(agents, 1 / 1.2, theirs),
        Goal(agent, 1 / 1.2, whole),
        Goal(shown, 500.0),
    ]
    return Group("imports", "Starting up", "start", cases, goals)


GROUPS: dict[str, Callable[[str], Group]] = {
    "sac": sac,
    "update": update,
    "critics": critics,
    "acting-1-drawn": lambda device: acting(1, False, device),
    "acting-1-best": lambda device: acting(1, True, device),
    "acting-64-drawn": lambda device: acting(64, False, device),
    "ppo": ppo,
    "fitting": fitting,
    "dynamics-gaussian": lambda device: dynamics("gaussian", device),
    "dynamics-cvae": lambda device: dynamics("cvae", device),
    "planning": planning,
    "simulators": partial(simulators, TASK),
    "storage": storage,
    "imports": imports,
}
"""Name → function that builds the group on a device."""
