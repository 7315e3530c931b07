"""Where an update of SAC goes: time, operations and arithmetic of each part, beside the floor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vaerl.benchmarks.groups import DENSITIES, START, TASK

REST = "actor's backward pass, and the rest"
UPDATES = 60
BATCH = 256


class _Meter(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def profile(name: str, updates: int = UPDATES) -> dict[str, dict[str, float]]:
    """Take an update of the named agent apart.

    Returns part → ``{"ms", "operations", "gflop"}`` per update; "whole update" last.

    Args:
        name: a key of `vaerl.benchmarks.groups.DENSITIES`.
        updates: over which the times are averaged.
    """
    from vaerl.agents import SAC

    density, policy_kwargs = DENSITIES[name]
    agent = SAC(
        density,
        TASK,
        seed=0,
        device="cpu",
        buffer_size=5_000,
        learning_starts=START,
        policy_kwargs=dict(policy_kwargs),
    )
    agent.learn(START + 20)
    seconds = _by_part(agent, time.perf_counter, updates)
    with _Meter() as meter:
        operations = _by_part(agent, lambda: float(meter.count), 1)
    with FlopCounterMode(display=False) as flops:
        arithmetic = _by_part(agent, lambda: float(flops.get_total_flops()), 1)
    return {
        part: {
            "ms": 1e3 * seconds[part],
            "operations": operations[part],
            "gflop": 1e-9 * arithmetic[part],
        }
        for part in seconds
    }


def _by_part(agent: Any, reading: Callable[[], float], updates: int) -> dict[str, float]:
    """What `reading` advances by in each part of an update, and in the whole."""
    totals: dict[str, float] = {}
    with _split(agent, reading, totals):
        start = reading()
        agent.train(updates, batch_size=BATCH)
        whole = reading() - start
    rest = whole - sum(totals.values())
    return {
        part: amount / updates
        for part, amount in {**totals, REST: rest, "whole update": whole}.items()
    }


@contextmanager
def _split(agent: Any, reading: Callable[[], float], totals: dict[str, float]) -> Iterator[None]:
    """Have the parts of this one agent's update add to `totals`; undone at the end."""

    def metered(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        totals.setdefault(part, 0.0)

        def run(*args: Any, **kwargs: Any) -> Any:
            before = reading()
            result = work(*args, **kwargs)
            totals[part] += reading() - before
            return result

        return run

    actor = agent.actor.action_log_prob
    with_gradient = metered("actor at s, with gradient", actor)
    without = metered("actor at s'", actor)

    def either(obs: Any) -> Any:
        return (with_gradient if torch.is_grad_enabled() else without)(obs)

    parts = (
        (agent.replay_buffer, "sample", "drawing a batch"),
        (agent, "_temperature", "temperature"),
        (agent.critic_target, "forward", "target critics"),
        (agent._critics, "regress", "critics: loss and gradient"),
        (agent.critic.optimizer, "step", "critics: Adam"),
        (agent._critics, "lowest", "critics: slope at own actions"),
        (agent.actor.optimizer, "step", "actor: Adam"),
        (agent, "_move_target", "moving the target critics"),
    )
    with ExitStack() as stack:
        stack.enter_context(patch.object(agent.actor, "action_log_prob", either))
        for owner, method, part in parts:
            work = metered(part, getattr(owner, method))
            stack.enter_context(patch.object(owner, method, work))
        yield


def matmul_gflops(size: int = BATCH, repeats: int = 200) -> float:
    """What this machine does in float32 products of that size, 10⁹ operations a second, median."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * size**3 / float(np.median(seconds))


def profile_record(parts: dict[str, dict[str, float]], name: str, command: str) -> dict[str, Any]:
    """A profile as plain data, in the form of docs/results/*.json."""
    rate = matmul_gflops()
    whole = parts["whole update"]["ms"]
    return {
        "title": f"Where an update goes: {name}",
        "command": command,
        "caption": (
            f"{TASK}, default networks, batches of {BATCH}, {torch.get_num_threads()} torch "
            f"thread(s). Floor: the products alone, at the {rate:.0f} GFLOP/s that this machine "
            f"does in products of {BATCH} × {BATCH}."
        ),
        "columns": ["part", "ms", "share, %", "operations", "GFLOP", "floor, ms"],
        "rows": [
            [
                part,
                round(row["ms"], 3),
                round(100.0 * row["ms"] / whole, 1),
                round(row["operations"]),
                round(row["gflop"], 4),
                round(1e3 * row["gflop"] / rate, 3),
            ]
            for part, row in parts.items()
        ],
    }
