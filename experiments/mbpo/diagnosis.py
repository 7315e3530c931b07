"""What limits MBPO: the model, at which horizon, or the critics?

Protocol. A learner of the comparison is trained for a few thousand steps. Then its policy acts,
with drawn actions, for two further episodes that nothing was fitted to. On these: errors of
roll-outs of MBPO's own model and of one with the other head, fitted afresh to the same buffer
(`vaerl.dynamics.horizon_errors`); and the bias of the critics, min_i Q_i(s, a) less what followed,

    G_t = r_t + γ (G_{t+1} − α log π(a' | s_{t+1})),   a' ~ π,

over states with at least `LEFT` steps to come, or up to an end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.monitor import Monitor

from vaerl.agents import MBPO
from vaerl.agents.mbpo import FIT
from vaerl.densities.options import check_positive
from vaerl.dynamics import FitOptions, Transitions, fit, horizon_errors, replay_transitions
from vaerl.dynamics.task import make_model
from vaerl.experiments.mbpo.experiment import HIDDEN, MODEL_BASED
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.comparison import Training
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.record import plain
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.lab.watching import Watch
from vaerl.names import check_name

LEARNERS = (
    "SAC 4 updates",
    "MBPO gaussian",
    "SAC 4 updates with switches",
    "MBPO gaussian with switches",
)
STEPS, HORIZON, EPISODES, LEFT = 5000, 20, 2, 300
AT = (1, 5, 20)
SHORT: dict[str, Any] = {"learning_starts": 200, "gradient_steps": 1}


class Diagnosis(Training):
    """One training, and what is measured after it."""

    @property
    def name(self) -> str:
        """Environment, learner, steps and seed."""
        return f"{self.env}-{self.learner}-{self.steps}-s{self.seed}".replace(" ", "-")


def run(
    out: Path,
    preset: str = "full",
    envs: list[str] | None = None,
    learners: list[str] | None = None,
    seeds: list[int] | None = None,
    steps: int | None = None,
    jobs: int = 1,
) -> Path:
    """Train what is not finished, and print the table.

    Args:
        out: folder of the results; finished trainings found there are reused.
        preset: "full", or "debug", which runs in seconds.
        envs: of HalfCheetah-v5 and Hopper-v5; both by default ("debug": the latter).
        learners: of those of `vaerl experiment mbpo` with four updates; all by default ("debug":
            the first two).
        seeds: 0, 1, 2 by default ("debug": 0).
        steps: environment steps a training; 5000 by default ("debug": 300).
        jobs: processes, each with one thread.
    """
    debug = check_name("preset", preset, ("full", "debug")) == "debug"
    fewest, usual = (300, 300) if debug else (2000, STEPS)
    length = check_positive("steps", usual if steps is None else steps, at_least=fewest)
    cells = [
        Diagnosis(env, learner, seed, length, _settings(env, learner, debug))
        for seed in seeds or (0, 1, 2)[: 1 if debug else None]
        for env in envs or (["Hopper-v5"] if debug else ["HalfCheetah-v5", "Hopper-v5"])
        for learner in learners or LEARNERS[: 2 if debug else None]
    ]
    given = {"preset": preset, "envs": envs, "learners": learners, "seeds": seeds, "steps": steps}
    command = command_line("mbpo-diagnosis", run, given)
    return Experiment(measure, assemble).run(cells, Path(out), command=command, jobs=jobs)


def _settings(env: str, learner: str, debug: bool) -> dict[str, Any]:
    check_name("env", env, MODEL_BASED.settings)
    check_name("learner", learner, LEARNERS)
    own = MODEL_BASED.learners[learner].keywords
    short = SHORT if debug else {}
    fits = {"fit_kwargs": {"steps": 5}} if debug and "dynamics" in own else {}
    return plain({**own, **MODEL_BASED.settings[env], **short, **fits})


def measure(cell: Diagnosis, desk: Desk) -> Measured:
    """Train the learner, let it act, and compare model and critics with what happens."""
    agent = MODEL_BASED.learners[cell.learner].func(
        "gaussian", env=Monitor(gymnasium.make(cell.env)), seed=cell.seed, device="cpu",
        buffer_size=cell.steps, **cell.settings,
    )  # fmt: skip
    watch = Watch(cell, desk, 2000)
    notes = watch.train(agent, cell.steps)
    held, bias = act(agent, cell.env, cell.seed + 10_000)
    found: dict[str, Any] = {"bias": bias, "train_seconds": notes["train_seconds"], "models": {}}
    if isinstance(agent, MBPO):
        steps = min(HORIZON, int(torch.bincount(held.episodes).max()))  # type: ignore[arg-type]
        for head in HIDDEN:
            world = agent.world if head == agent.dynamics else _fitted(agent, head)
            errors = horizon_errors(
                world, held, steps, generator=agent.world_noise.generator("cpu")
            )
            found["models"][head] = {name: part.tolist() for name, part in errors._asdict().items()}
    watch.clear()
    return Measured(found)


def _fitted(agent: MBPO, head: str) -> Any:
    """A model with another head, fitted to what the agent has seen."""
    world = make_model(
        agent.observation_space, agent.action_space, density=head, density_kwargs=HIDDEN[head],
        termination="never", members=agent.members, propagation=agent.propagation,
    )  # fmt: skip
    options = FitOptions(**{**FIT, **agent.fit_kwargs})
    assert agent.replay_buffer is not None, "it has been trained"
    fit(world, replay_transitions(agent.replay_buffer), options, torch.Generator().manual_seed(0))
    return world


def act(agent: Any, env_id: str, seed: int) -> tuple[Transitions, dict[str, float]]:
    """Episodes with drawn actions, and the critics' bias on them: mean, and in deviations of the
    returns."""
    env, rows, values, returns = gymnasium.make(env_id), [], [], []
    scale = getattr(agent, "return_scale", None)  # then critics count in its units
    unit = 1.0 if scale is None else 1.0 / float(scale(torch.ones(())))
    for episode in range(EPISODES):
        state, _ = env.reset(seed=seed + episode)
        ended, own = False, []
        while not ended:
            action, _ = agent.predict(state, deterministic=False)
            after, reward, terminated, truncated, _ = env.step(action)
            scaled = agent.policy.scale_action(action)
            own.append((state, scaled, after, float(reward), float(terminated), episode))
            state, ended = after, terminated or truncated
        rows += own
        bonus, worth = _entropy(agent, [row[2] for row in own]), 0.0
        for k, (before, action, _, reward, ends, _) in reversed([*enumerate(own)]):
            worth = reward / unit + agent.gamma * (1.0 - ends) * (worth + bonus[k])
            if terminated or len(own) - k > LEFT:
                obs, taken = (
                    torch.as_tensor(x, dtype=torch.float32)[None] for x in (before, action)
                )
                values.append(float(agent._critics.lowest(obs, taken)[0]))
                returns.append(worth)
    env.close()
    columns: list[Any] = [np.stack([np.asarray(row[i]) for row in rows]) for i in range(6)]
    bias = float(np.mean(np.array(values) - returns))
    return Transitions(*columns), {"bias": bias, "relative": bias / (float(np.std(returns)) + 1e-6)}


@torch.no_grad()
def _entropy(agent: Any, states: list[np.ndarray]) -> list[float]:
    """−α log π(a | s) of an action drawn at each state."""
    seen = torch.as_tensor(np.stack(states), dtype=torch.float32)
    return (-agent._alpha() * agent.actor.action_log_prob(seen)[1]).flatten().tolist()


def assemble(results: Results) -> dict[str, Any]:
    """A row for each environment and learner, and for each model of MBPO."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for r in results:
        key = (r.cell["env"], r.cell["learner"])
        for head, errors in (r.data["models"] or {"–": None}).items():
            groups.setdefault((*key, head), []).append((errors, r.data["bias"]["relative"]))
    rows = []
    for (env, learner, head), own in groups.items():
        row = [env, learner, head, str(len(own))]
        for part in ("error", "spread", "reward"):
            for k in AT:
                known = all(errors is not None and len(errors[part]) >= k for errors, _ in own)
                row.append(interval([e[part][k - 1] for e, _ in own], 2) if known else "–")
        rows.append([*row, interval([bias for _, bias in own], 2)])
    return {
        "title": "What limits MBPO: errors of the model by horizon, and bias of the critics",
        "caption": (
            f"After {results[0].cell['steps']:,} steps, on {EPISODES} further episodes with drawn "
            "actions. Error: of the predicted mean state, root mean square in deviations of the "
            "state, after so many steps; spread: of the particles around it; reward: the same of "
            "the sum of rewards. Bias: of the lowest critic, in deviations of what followed, "
            "with entropy. Over several seeds with the 95 % interval (Student's t)."
        ),
        "columns": [
            "environment", "learner", "model", "seeds",
            *(f"{part}, {k}" for part in ("error", "spread", "reward") for k in AT),
            "bias of Q",
        ],
        "rows": rows,
        "data": {r.path.stem: dict(r.data) for r in results},
    }  # fmt: skip
