"""The tasks: their demonstrations, the settings that all rows share, and how a policy is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from matplotlib.figure import Figure

import vaerl.envs
from vaerl.data import Demonstrations, Episode
from vaerl.envs.avoiding_expert import record_demonstrations
from vaerl.envs.cube_pads import CubePadsEnv, scripted_expert
from vaerl.envs.metrics import entropy_ceiling, goals_reached, mode_entropy, success_rate
from vaerl.experiments.cloning import handwriting
from vaerl.experiments.cloning.drawings import draw_drawings
from vaerl.experiments.cloning.judged import Judged, pad
from vaerl.report.figures import save_png

AVOIDING, CUBE = "vaerl/Avoiding-v0", "vaerl/CubePads-v0"
EXPLORATION = np.array([0.15, 0.15, 0.15, 0.15, 0.0])
"""Noise on the executed actions of the cube's expert, by dimension; the recorded ones have none."""
JUDGED_FROM = 1_000_000
"""First of the seeds with which episodes are judged; demonstrations are recorded below it."""
Shown = Mapping[str, tuple[Mapping[str, float], np.ndarray]]
"""Numbers and paths by the name of a policy."""
OTHER = 500_000
"""Added to the seed of the demonstrations for those on which the likelihood is measured."""


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        env: Gymnasium id.
        demonstrations: how many the table of rows uses.
        settings: of `vaerl.agents.BC`, for all rows.
        updates: of the cvae.
        episodes: that judge a policy.
        starts: different first states; the episodes are shared out among them evenly.
        record: makes demonstrations from their number and a seed.
        own: settings of single rows, where trials on other seeds preferred them (tried.csv).
    """

    env: str
    demonstrations: int
    settings: Mapping[str, Any]
    updates: int
    episodes: int
    starts: int
    record: Callable[[int, int], Demonstrations]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def others(self, count: int, seed: int) -> Demonstrations:
        """Demonstrations for the likelihood, none of them among the `count` that were cloned."""
        return self.record(min(count, 96), OTHER + seed)

    def judge(self, policy: Any, episodes: int, seed: int, out: Path) -> Judged:
        """What a policy does; `out` is the folder of the experiment."""
        return judge(policy, self, episodes, seed)

    def draw(self, shown: Shown, path: Path) -> Path:
        """Draw the paths of policies, under their titles."""
        env: Any = gymnasium.make(self.env)
        figure = Figure(figsize=(2.6 * len(shown), 3.2), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, (name, (numbers, paths)) in zip(axes, shown.items(), strict=True):
            env.unwrapped.map_artist(axis)
            for own in paths:
                axis.plot(*own.T, color="C0", linewidth=0.6, alpha=0.6)
            title = f"{numbers['success']:.2f} / {numbers['entropy']:.2f}"
            axis.set_title(f"{name}\n{title}", fontsize=9)
        return save_png(figure, path, dpi=90)


class Writing(Task):
    """Handwriting: people are the data, and other people the measure."""

    def others(self, count: int, seed: int) -> Demonstrations:
        return handwriting.unseen()

    def judge(self, policy: Any, episodes: int, seed: int, out: Path) -> Judged:
        return handwriting.judge(policy, episodes, out)

    def draw(self, shown: Shown, path: Path) -> Path:
        blocks = {
            name: [[p[~np.isnan(p[:, 0])] for p in drawings] for drawings in paths]
            for name, (_, paths) in shown.items()
            if name in ("gaussian", "mixture-16", "cvae")
        }
        return draw_drawings({"people": handwriting.people_shown(), **blocks}, path)


def record_avoiding(count: int, seed: int) -> Demonstrations:
    """Successful demonstrations, equally many of each of the 24 ways."""
    episodes = record_demonstrations(max(1, count // 24), seed=seed)
    env = gymnasium.make(AVOIDING)
    return Demonstrations(
        [Episode(d.observations, d.actions, terminated=True) for d in episodes if d.success],
        env.observation_space,
        env.action_space,
        env=AVOIDING,
    )


def record_cube(count: int, seed: int) -> Demonstrations:
    """Successful demonstrations with a random pad and grasp each.

    The executed action carries noise and the recorded one is the expert's own, so that the data
    shows how to come back to the way (DART, Laskey et al. 2017).
    """
    rng = np.random.default_rng(seed)
    env = CubePadsEnv()
    episodes: list[Episode] = []
    while len(episodes) < count:
        observation, _ = env.reset(seed=int(rng.integers(JUDGED_FROM)))
        act = scripted_expert(int(rng.integers(4)), int(rng.integers(2)), env)
        seen, actions, ended, cut = [observation], [], False, False
        while not (ended or cut):
            actions.append(act(observation).astype(np.float32))
            moved = np.clip(actions[-1] + EXPLORATION * rng.normal(size=5), -1.0, 1.0)
            observation, _, ended, cut, _ = env.step(moved)
            seen.append(observation)
        if ended:
            episodes.append(Episode(np.stack(seen), np.stack(actions), terminated=True))
    return Demonstrations(episodes, env.observation_space, env.action_space, env=CUBE)


TASKS: Mapping[str, Task] = {
    "avoiding": Task(
        AVOIDING,
        480,
        {"chunk": 16, "execute": 8},
        4_000,
        480,
        1,
        record_avoiding,
        {
            **{
                name: {"execute": 2, "latent": "chunk", "latent_temperature": 0.5}
                for name in ("cvae", "cvae-L2")
            },
            **{
                name: {"execute": 4, "history": 2, "observation_noise": 0.01}
                for name in ("flow-matching", "diffusion")
            },
        },
    ),
    "cube": Task(
        CUBE,
        200,
        {"chunk": 8, "execute": 4},
        4_000,
        200,
        20,
        record_cube,
        {
            name: {"history": 1, "observation_noise": 0.01}
            for name in ("flow-matching", "diffusion")
        },
    ),
    "handwriting": Writing(
        "vaerl/Handwriting-v0",
        3_630,
        handwriting.SETTINGS,
        11_000,
        3_630,
        1,
        handwriting.demonstrations,
        handwriting.OWN,
    ),
}


def judge(policy: Any, task: Task, episodes: int, seed: int) -> Judged:
    """Success, and the entropy over the ways, of episodes with drawn actions.

    "entropy" is D3IL's (Jia et al. 2024): that of the successful episodes from one first state, in
    the mean over first states; "pooled" is that of all episodes, which a policy without chance also
    reaches where the first state decides. `policy` has the `predict` of Stable-Baselines3, with a
    state and for a batch.
    """
    vaerl.envs.register_envs()
    starts = min(task.starts, episodes)
    copies = episodes // starts
    envs: list[Any] = [gymnasium.make(task.env) for _ in range(copies)]
    modes = envs[0].unwrapped.num_modes
    waves = [_wave(policy, envs, JUDGED_FROM + 1_000 * seed + start) for start in range(starts)]
    goals = [goal for ends, _ in waves for goal in ends]
    numbers = {
        "success": success_rate(goals, modes),
        "entropy": float(np.mean([mode_entropy(ends, modes) for ends, _ in waves])),
        "ceiling": entropy_ceiling(modes, copies).mean,
        "pooled": mode_entropy(goals, modes),
        "pooled_ceiling": entropy_ceiling(modes, len(goals)).mean,
        "ways": float(goals_reached(goals, modes)),
    }
    paths = [path for _, ways in waves for path in ways]
    return Judged(numbers, pad(paths))


def _wave(policy: Any, envs: list[Any], start: int) -> tuple[list[int], list[np.ndarray]]:
    """One episode in each environment, all from the same seed: goals reached and places passed."""
    count = len(envs)
    seen = np.stack([env.reset(seed=start)[0] for env in envs])
    places = [[env.unwrapped.position(o)[:2]] for env, o in zip(envs, seen, strict=True)]
    goals = [-1] * count
    running = set(range(count))
    state, first = None, np.ones(count, bool)
    while running:
        actions, state = policy.predict(seen, state, first)
        first = np.zeros(count, bool)
        for i in sorted(running):
            seen[i], _, terminated, truncated, info = envs[i].step(actions[i])
            places[i].append(envs[i].unwrapped.position(seen[i])[:2])
            if terminated or truncated:
                goals[i] = info["goal"]
                running.discard(i)
    return goals, [np.array(own) for own in places]
