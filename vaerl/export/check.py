"""Does the exported policy answer as the policy itself? Asked at thousands of observations.

Reference is `predict` in torch: the noise that it drew is recorded and fed to the model. A
difference counts in half widths of the action's box. A few answers jump: where two candidates are
equally likely, or a number lies on the edge between two components, the last digit decides. Such a
row counts as a jump, not as an error, if the policy itself gives the exported answer once the
results of its operations have changed in their last digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vaerl.export.graph import NOISE, WHOLE, Graph
from vaerl.export.loader import Policy
from vaerl.export.noise import Tape, as_columns, recorded

ROWS = 250
"""Observations looked at together."""
STEPS = 1000
"""Of the policy in its environment, which show what it sees."""
NUDGES, DIGITS = 100, 2.0**-23
"""Answers looked at where rows differ, and how far each operation is off: float32's last digit."""
TOLERANCE = 1e-5
"""In half widths of the action's box."""

Parts = dict[str, np.ndarray]


@dataclass(frozen=True)
class Check:
    """The answers of the two models against those of the policy."""

    observations: int
    """Looked at."""
    drawn: float
    """Largest difference of a drawn action, in half widths of the box."""
    deterministic: float
    """The same of a deterministic one."""
    jumps: int
    """Rows of both left out, whose answer the last digit decides."""


def observations(env: VecEnv, policy: Policy, count: int, seed: int = 0) -> Parts:
    """What the policy sees in its environment, and other observations around these.

    Parts ``(count, H, *shape)``.
    """
    raw, history = env.unwrapped, policy.about["history"]
    raw.seed(seed)
    rows: list[Any] = [raw.reset()]
    state, start = None, None
    for _ in range(min(STEPS, count) - 1):
        actions, state = policy.predict(rows[-1], state, start)
        seen, _, start, _ = raw.step(actions)
        rows.append(seen)
    first = rows[0]
    keys = [*first] if isinstance(first, dict) else [WHOLE]
    met = {k: np.array([r[k][0] if isinstance(r, dict) else r[0] for r in rows]) for k in keys}
    rng = np.random.default_rng(seed)
    ends = np.concatenate([np.arange(len(rows)), rng.integers(0, len(rows), count - len(rows))])
    windows = np.maximum(ends[:, None] + np.arange(1 - history, 1), 0)
    space = raw.observation_space
    spread = {}
    for key, seen in met.items():
        part: Any = space[key] if isinstance(space, spaces.Dict) else space
        x = seen[windows]
        if isinstance(part, spaces.Box):
            scale = seen.std(0, dtype=np.float64) / 4.0
            noise = scale * rng.standard_normal(x[len(rows) :].shape)
            around = np.clip(x[len(rows) :] + noise, part.low, part.high)
            x[len(rows) :] = around.astype(x.dtype)
        spread[key] = x
    return spread


def check(graph: Graph, agent: Any, exported: Policy, seen: Parts) -> Check:
    """Compare on observations with parts ``(N, H, *shape)``."""
    count = len(next(iter(seen.values())))
    worst, jumps = [], 0
    for kind, deterministic in enumerate((False, True)):
        apart, answers, fed = [], [], []
        for place in range(0, count, ROWS):
            rows = {key: x[place : place + ROWS] for key, x in seen.items()}
            expected, noise = _reference(graph, agent, rows, deterministic)
            feed = rows if graph.rhythm.history > 1 else {k: x[:, 0] for k, x in rows.items()}
            given = {} if deterministic or not graph.layout else {NOISE: noise}
            answers.append(exported.sessions[kind].run(None, {**feed, **given})[0])
            apart.append(_apart(graph, answers[-1], expected))
            fed.append({**feed, NOISE: noise})
        far = np.concatenate(apart)
        differ = np.flatnonzero(far > TOLERANCE)
        if len(differ):
            those = {key: np.concatenate([part[key] for part in fed])[differ] for key in fed[0]}
            near = _nearest(graph, those, deterministic, np.concatenate(answers)[differ])
            jumps += int((near <= TOLERANCE).sum())
            far[differ] = np.where(near <= TOLERANCE, 0.0, far[differ])
        worst.append(float(far.max()))
    return Check(count, worst[0], worst[1], jumps)


def _apart(graph: Graph, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    space = graph.policy.action_space
    apart = np.abs(found - expected) / (np.asarray(space.high - space.low) / 2)
    return apart.reshape(len(apart), -1).max(1)


class _LastDigits(TorchDispatchMode):
    """Changes what goes into and comes out of operations in the last digits."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(returned.alias_info is not None for returned in func._schema.returns):
            return func(*args, **(kwargs or {}))
        # inputs too: a sum that nearly cancels rounds by its terms
        return self._changed(func(*map(self._changed, args), **(kwargs or {})))

    def _changed(self, value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return value
        change = torch.randn(value.shape, generator=self.generator)
        return value * (1.0 + DIGITS * change).to(value.dtype)


@torch.no_grad()
def _nearest(graph: Graph, rows: Parts, deterministic: bool, answers: np.ndarray) -> np.ndarray:
    """How near the policy comes to these answers when its operations round differently."""
    tensors = {key: torch.as_tensor(x) for key, x in rows.items()}
    noise, nearest = tensors.pop(NOISE), np.full(len(answers), np.inf)
    if deterministic and len(graph.fixed):
        noise = graph.fixed.expand(len(answers), -1)
    with _LastDigits(torch.Generator().manual_seed(0)):
        for _ in range(NUDGES):
            found = graph.decide(tensors, Tape(noise, graph.layout), deterministic).numpy()
            nearest = np.minimum(nearest, _apart(graph, found, answers))
    return nearest


def _reference(
    graph: Graph, agent: Any, rows: Parts, deterministic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Decisions of `predict` ``(B, T, *shape)`` and the noise ``(B, N)`` that it drew for them."""
    policy, count = agent.policy.acting, len(next(iter(rows.values())))
    wrapper = unwrap_vec_normalize(agent.get_env())
    raw: Any = rows if isinstance(graph.space, spaces.Dict) else rows[WHOLE]
    if wrapper is not None:
        raw = wrapper.normalize_obs(raw)
    one_by_one = deterministic and policy.fixed_seed is not None  # its noise is for one row
    answers = []
    with recorded(policy.head) as draws:
        for part in np.split(np.arange(count), count if one_by_one else 1):
            answers.append(policy.answer(_rows(raw, part), deterministic))
    noise = np.zeros((count, graph.noise_size), np.float32)
    if not deterministic:
        noise = as_columns(draws, graph.layout, count).numpy()
    return np.concatenate(answers), noise


def _rows(observations: Any, rows: np.ndarray) -> Any:
    if isinstance(observations, dict):
        return {key: x[rows] for key, x in observations.items()}
    return observations[rows]
