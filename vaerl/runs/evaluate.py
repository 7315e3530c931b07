"""Evaluation of a policy: returns, lengths, goals reached, traces on the map.

Every copy of the environment runs a fixed share of the episodes. Taking the first episodes that end
in any copy would favour short ones, and with them the nearest goal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.envs.registration import load_env_creator
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from vaerl.checkpoint.rng import preserve_rng
from vaerl.envs import metrics
from vaerl.envs.making import declared, find_spec
from vaerl.policies.noise import NoiseSource
from vaerl.runs.vec import make_vec
from vaerl.threads import limit_threads

COPIES = 50  # maximum number of environments, which share one prediction per step
TRACES = 200  # maximum number of episodes whose positions are kept
MOST_SHARES = 10  # with more goals, the share of each goal is not a score

EPISODE_LIMIT = 10_000  # steps of an episode where the environment declares no end
DEFAULT_EPISODES = (10, 20)  # of an evaluation during training, and of the one at its end


class Predictor(Protocol):
    """A Stable-Baselines3 algorithm, or any object with its `predict`."""

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, Any]:
        """Return actions for a batch of observations, and a state for the next call, or None."""


def cut_note(env: str, cut: int, episodes: int) -> str:
    """A line about episodes that were cut; empty without any."""
    if not cut:
        return ""
    return (
        f"env {env!r}: {cut} of {episodes} episodes did not end and were cut after "
        f"{EPISODE_LIMIT:,} steps; --env-option max_episode_steps=N sets a limit"
    )


@dataclass(frozen=True)
class EvalResult:
    """E episodes of one policy, ordered by copy of the environment."""

    env: str
    """Gymnasium id."""
    deterministic: bool
    """Whether the policy took its best action, or drew one from its density."""
    seed: int
    """Seed of the episodes and of the policy's draws."""
    returns: NDArray[np.float64]
    """Undiscounted return of each episode, shape (E,)."""
    lengths: NDArray[np.int64]
    """Steps of each episode, shape (E,)."""
    goals: NDArray[np.int64]
    """Index of the goal (mode) that each episode ended in, −1 for none, shape (E,)."""
    successes: NDArray[np.bool_] | None
    """Whether each episode succeeded, shape (E,); None if the environment does not report it."""
    num_modes: int = 0
    """Goals (modes) of the environment, 0 if it has none."""
    traces: tuple[NDArray[np.float64], ...] = ()
    """Positions (T + 1, 2) of the first episodes, if the environment reports them."""
    cut: int = 0
    """Episodes that the environment did not end and that were cut after `EPISODE_LIMIT` steps."""

    @property
    def note(self) -> str:
        """A line about episodes that were cut; empty without any."""
        return cut_note(self.env, self.cut, len(self.lengths))

    def scores(self) -> dict[str, float]:
        """Return all scores of the episodes, by the name under which they are logged."""
        scores = {
            "return_mean": float(self.returns.mean()),
            "return_std": float(self.returns.std()),
            "length_mean": float(self.lengths.mean()),
            "episodes": float(len(self.returns)),
        }
        if self.successes is not None:
            scores["success_rate"] = float(self.successes.mean())
        if self.num_modes:
            scores.update(_mode_scores(self))
        return scores

    def to_dict(self, *, episodes: bool = False) -> dict[str, Any]:
        """Return the scores as plain data; with `episodes`, also the numbers of every episode."""
        data: dict[str, Any] = {
            "env": self.env,
            "seed": self.seed,
            "deterministic": self.deterministic,
            **self.scores(),
        }
        if episodes:
            data["returns"] = [round(float(r), 6) for r in self.returns]
            data["lengths"] = self.lengths.tolist()
            data["goals"] = self.goals.tolist()
        return data


def episodes_wanted(env_id: str, *, final: bool = True) -> int:
    """Return how many episodes an evaluation takes: `evaluation_episodes` of the environment.

    Shares of goals need a thousand; long or costly episodes allow fewer.

    >>> episodes_wanted("vaerl/MultiGoal-v0"), episodes_wanted("Hopper-v5", final=False)
    (1000, 10)
    """
    entry_point = find_spec(env_id).entry_point
    made_by = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    during, at_end = getattr(declared(made_by), "evaluation_episodes", DEFAULT_EPISODES)
    return at_end if final else during


@limit_threads()
def evaluate(
    agent: Predictor,
    env_id: str,
    *,
    episodes: int,
    seed: int,
    deterministic: bool = False,
    env_options: Mapping[str, Any] | None = None,
    copies: int | None = None,
    traces: int = TRACES,
    check: Callable[[], None] = lambda: None,
) -> EvalResult:
    """Run `episodes` episodes; every global random stream is restored afterwards.

    Args:
        agent: an algorithm or a policy.
        env_id: Gymnasium id.
        episodes: E ≥ 1.
        seed: of the environments and of the policy; the same seed gives the same episodes.
        deterministic: take the policy's best action instead of drawing one.
        env_options: arguments of gymnasium.make.
        copies: number of environments, at most `COPIES` by default.
        traces: maximum number of episodes whose positions are kept.
        check: called before every step; ends the evaluation by raising.

    Raises:
        EnvironmentFault: the environment failed.
        ValueError: an unknown environment, or fewer than one episode.
    """
    if episodes < 1:
        raise ValueError(f"episodes: got {episodes!r}, expected a whole number, 1 or more")
    copies = min(episodes, COPIES if copies is None else copies)
    quota = np.full(copies, episodes // copies)
    quota[: episodes % copies] += 1
    with own_randomness(agent, seed):
        env = make_vec(
            env_id,
            copies,
            seed=seed,
            options=env_options,
            discrete=acts_discretely(agent),
            limit=EPISODE_LIMIT,
        )
        try:
            first = env.envs[0]  # type: ignore[attr-defined]
            known = declared(first)
            rows = _roll_out(agent, env, quota, deterministic, check, known is not None)
            num_modes = int(getattr(known, "num_modes", 0))
            limit = first.limit
        finally:
            env.close()
    ends = [row.end for row in rows]
    scored = all("is_success" in end for end in ends)
    lengths = np.array([end["episode"]["l"] for end in ends], dtype=np.int64)
    return EvalResult(
        env=env_id,
        deterministic=deterministic,
        seed=seed,
        returns=np.array([end["episode"]["r"] for end in ends], dtype=np.float64),
        lengths=lengths,
        goals=np.array([row.goal for row in rows], dtype=np.int64),
        successes=np.array([end["is_success"] for end in ends], dtype=bool) if scored else None,
        num_modes=num_modes,
        traces=tuple(np.array(row.trace) for row in rows[:traces] if len(row.trace)),
        cut=int((lengths == limit).sum()) if limit else 0,
    )


METRICS = (
    *("return_mean", "return_std", "length_mean", "success_rate", "goals_reached"),
    *("goal_share_min", "multi_goal_score", "mode_entropy"),
)
"""Scores that a search can look for; those from success_rate on exist in some environments."""


def _mode_scores(result: EvalResult) -> dict[str, float]:
    """Score how the episodes spread over the goals, with the score of a perfect policy."""
    goals, modes, count = result.goals, result.num_modes, len(result.goals)
    share = metrics.goal_counts(goals, modes) / count
    scores = {
        "num_modes": float(modes),
        "goals_reached": float(metrics.goals_reached(goals, modes)),
        "goal_share_min": float(share.min()),
        "multi_goal_score": metrics.multi_goal_score(goals, modes),
        "mode_entropy": metrics.mode_entropy(goals, modes),
    }
    if modes > 1:
        ceiling = metrics.score_ceiling(modes, count)
        scores["multi_goal_score_ceiling"] = ceiling.mean
        scores["multi_goal_score_ceiling_p5"] = ceiling.percentile
    if modes <= MOST_SHARES:
        scores.update({f"goal_share_{i}": float(s) for i, s in enumerate(share)})
    return scores


def acts_discretely(agent: Any) -> bool:
    """Whether the actions of the agent are discrete."""
    return isinstance(getattr(agent, "action_space", None), Discrete)


@contextmanager
def own_randomness(agent: Any, seed: int) -> Iterator[None]:
    """Seed every random stream on entry and restore it on exit.

    The streams are the global ones, that of the agent's action space and those of the policy's
    noise. What happens inside (evaluation, pictures, videos) then cannot change training.
    """
    policy = getattr(agent, "policy", None)
    modules = policy.modules() if isinstance(policy, torch.nn.Module) else ()
    with preserve_rng(agent):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  (policies of others may draw from it)
        for module in modules:
            if isinstance(module, NoiseSource):
                module.reseed(seed)
        yield


@dataclass
class _Row:
    """One episode: the positions visited, the info of its last step, and the goal reached."""

    trace: list[NDArray[np.float64]]
    end: dict[str, Any] = field(default_factory=dict)
    goal: int = -1


def _roll_out(
    agent: Predictor,
    env: VecEnv,
    quota: NDArray[np.int64],
    deterministic: bool,
    check: Callable[[], None],
    places: bool,
) -> list[_Row]:
    """Step all copies until each has run its share; the episodes are ordered by copy.

    `places`: whether `info` holds positions and goals.
    """

    def place(info: Mapping[str, Any]) -> list[NDArray[np.float64]]:
        known = places and info.get("position") is not None
        return [np.asarray(info["position"], dtype=np.float64)] if known else []

    done_rows: list[list[_Row]] = [[] for _ in quota]
    observations = env.reset()
    open_rows = [_Row(place(info)) for info in env.reset_infos]
    state: Any = None  # the plan of an agent that plans
    starts = np.ones(env.num_envs, dtype=bool)
    while any(len(rows) < share for rows, share in zip(done_rows, quota, strict=True)):
        check()
        carried: dict[str, Any] = {} if state is None else {"state": state, "episode_start": starts}
        actions, state = agent.predict(observations, deterministic=deterministic, **carried)
        observations, _, dones, infos = env.step(actions)
        starts = dones
        for i, (done, info) in enumerate(zip(dones, infos, strict=True)):
            open_rows[i].trace.extend(place(info))
            if done:
                open_rows[i].end = info
                open_rows[i].goal = int(info.get("goal", -1)) if places else -1
                if len(done_rows[i]) < quota[i]:
                    done_rows[i].append(open_rows[i])
                open_rows[i] = _Row(place(env.reset_infos[i]))
    return [row for rows in done_rows for row in rows]
