"""Where the time goes: an update of SAC beside its arithmetic, a rollout of PPO and its updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vaerl.lab.bench.groups import DENSITIES, PPO_DENSITIES, PPO_STEPS, START, TASK, make_ppo
from vaerl.lab.bench.parts import Parts, Place
from vaerl.lab.bench.record import count, setting
from vaerl.lab.bench.timing import device_clock

WHOLE = "whole update"
REST = "actor's backward pass, and the rest"
UPDATES = 60
BATCH = 256
ROLLOUTS = 6
PPO_WHOLE = "rollout and update"

Profile = dict[str, dict[str, float]]
"""Part → name of a number → the number."""


class _Meter(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


# -- SAC -------------------------------------------------------------------------------------------


def profile(name: str, updates: int = UPDATES, device: str = "cpu") -> Profile:
    """Take an update of the named agent apart.

    Returns part → ``{"ms", "operations", "gflop"}`` per update; "whole update" last.

    Args:
        name: a key of `vaerl.lab.bench.groups.DENSITIES`.
        updates: over which the times are averaged.
        device: on which the agent learns.
    """
    from vaerl.agents import SAC

    density, policy_kwargs = DENSITIES[name]
    agent = SAC(
        density,
        TASK,
        seed=0,
        device=device,
        buffer_size=5_000,
        learning_starts=START,
        policy_kwargs=dict(policy_kwargs),
    )
    agent.learn(START + 20)
    seconds = _by_part(agent, device_clock(device), updates)
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
    with_gradient, without = "actor at s, with gradient", "actor at s'"

    def which() -> str:
        return with_gradient if torch.is_grad_enabled() else without

    places = [
        Place(agent.actor, "action_log_prob", which),
        Place(agent.replay_buffer, "sample", "drawing a batch"),
        Place(agent, "_temperature", "temperature"),
        Place(agent.critic_target, "forward", "target critics"),
        Place(agent._critics, "regress", "critics: loss and gradient"),
        Place(agent.critic.optimizer, "step", "critics: Adam"),
        Place(agent._critics, "lowest", "critics: slope at own actions"),
        Place(agent.actor.optimizer, "step", "actor: Adam"),
        Place(agent, "_move_target", "moving the target critics"),
    ]
    parts = Parts(reading, [with_gradient, without, *(str(p.part) for p in places[1:]), REST])
    with parts.at([*places, Place(agent, "train", REST, splits=True)]):
        agent.train(updates, batch_size=BATCH)
    return _shares(parts.totals, updates, WHOLE)


# -- PPO -------------------------------------------------------------------------------------------


def profile_ppo(
    name: str,
    rollouts: int = ROLLOUTS,
    device: str = "cpu",
    clock: Callable[[], float] | None = None,
) -> Profile:
    """Take `learn()` of PPO apart, a rollout and the update on it.

    Returns part → ``{"ms"}`` per rollout and update; "rollout and update" last. Operations are not
    counted: acting and the CVAE's log-density are numpy's.

    Args:
        name: a key of `vaerl.lab.bench.groups.PPO_DENSITIES`.
        rollouts: over which the times are averaged, after one that is not counted.
        device: on which the agent learns.
        clock: seconds; wall time unless another is given.
    """
    agent = make_ppo(name, device)
    agent.learn(PPO_STEPS)
    places = _ppo_places(agent)
    names = list(dict.fromkeys(str(place.part) for place in places))
    parts = Parts(clock or device_clock(device), names)
    with parts.at(places):
        for _ in range(rollouts):
            agent.learn(PPO_STEPS, reset_num_timesteps=False)
    seconds = _shares(parts.totals, rollouts, PPO_WHOLE)
    return {part: {"ms": 1e3 * took} for part, took in seconds.items()}


def _ppo_places(agent: Any) -> list[Place]:
    gradients, step = "update: gradients", "update: optimiser"
    places = [
        Place(agent.env, "step", "rollout: environment"),
        Place(agent.policy, "forward", "rollout: acting"),
        Place(agent.policy, "predict_values", "rollout: acting"),
        Place(agent, "learn", "rollout: bookkeeping", splits=True),
        Place(agent.policy, "evaluate_actions", "update: evaluate"),
        Place(torch.autograd, "backward", gradients),
        Place(torch.nn.utils, "clip_grad_norm_", step),
        Place(agent.policy.optimizer, "zero_grad", step),
        Place(agent.policy.optimizer, "step", step),
    ]
    if agent.recognition_optimizer is not None:
        places.append(Place(agent, "_sleep", "update: recognition network"))
    return [*places, Place(agent, "train", "update: batches, and the rest", splits=True)]


# -- tables ----------------------------------------------------------------------------------------


def _shares(totals: Mapping[str, float], units: int, whole: str) -> dict[str, float]:
    return {part: sum_ / units for part, sum_ in [*totals.items(), (whole, sum(totals.values()))]}


def matmul_gflops(size: int = BATCH, repeats: int = 200, device: str = "cpu") -> float:
    """What this machine does in float32 products of that size, 10⁹ operations a second, median."""
    a, b = torch.randn(2, size, size, device=device)
    clock, seconds = device_clock(device), []
    for _ in range(repeats):
        start = clock()
        torch.mm(a, b)
        seconds.append(clock() - start)
    return 2e-9 * size**3 / float(np.median(seconds))


def profile_record(parts: Profile, name: str, command: str, device: str = "cpu") -> dict[str, Any]:
    """A profile of SAC as plain data, in the form of a record of results."""
    rate = matmul_gflops(device=device)
    whole = parts[WHOLE]["ms"]
    return {
        "title": f"Where an update goes: {name}",
        "command": command,
        "caption": (
            f"{TASK}, default networks, batches of {BATCH}, {_where(device)}. Floor: the products "
            f"alone, at the {rate:.0f} GFLOP/s that this machine does in products of {BATCH} × "
            f"{BATCH}."
        ),
        "columns": ["part", "ms", "share, %", "operations", "GFLOP", "floor, ms"],
        "rows": [
            [
                *_time(part, row["ms"], whole),
                round(row["operations"]),
                round(row["gflop"], 4),
                round(1e3 * row["gflop"] / rate, 3),
            ]
            for part, row in parts.items()
        ],
        **setting(device),
    }


def profile_ppo_record(
    parts: Profile, name: str, command: str, device: str = "cpu"
) -> dict[str, Any]:
    """A profile of PPO as plain data, in the form of a record of results."""
    whole = parts[PPO_WHOLE]["ms"]
    return {
        "title": f"Where PPO's time goes: {name}",
        "command": command,
        "caption": (
            f"{TASK}, default networks, per rollout of {PPO_STEPS} steps and the update on it "
            f"(10 epochs of batches of 64), mean over {ROLLOUTS}, {_where(device)}."
        ),
        "columns": ["part", "ms", "share, %"],
        "rows": [[*_time(part, row["ms"], whole)] for part, row in parts.items()],
        **setting(device),
    }


def profiles(
    groups: Iterable[str], command: str, device: str
) -> Iterable[tuple[str, dict[str, Any]]]:
    """File name and record of every profile of the named groups, one after the other."""
    if "sac" in groups:
        for name in DENSITIES:
            made = profile_record(profile(name, device=device), name, command, device)
            yield f"profile-{_slug(name)}.json", made
    if "ppo" in groups:
        for name in PPO_DENSITIES:
            made = profile_ppo_record(profile_ppo(name, device=device), name, command, device)
            yield f"profile-ppo-{_slug(name)}.json", made


def _time(part: str, ms: float, whole: float) -> list[Any]:
    return [part, round(ms, 3), round(100.0 * ms / whole, 1)]


def _slug(name: str) -> str:
    return "-".join(name.replace("=", "").replace(",", "").lower().split()[1:])


def _where(device: str) -> str:
    threads = count(torch.get_num_threads(), "torch thread")
    return threads if device == "cpu" else f"{threads}, on {setting(device)['device']}"
