"""Saving and restoring the random generators, so that evaluation never changes training.

stable-baselines3 draws from three global streams: torch, numpy's legacy generator, and (through
environments) Python's. `preserve_rng` restores them after a block of code; `capture_rng` and
`restore_rng` store them in a checkpoint.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

WORDS = 624  # of a Mersenne Twister's state


def capture_rng(action_space: Any = None) -> dict[str, Any]:
    """Return the state of the global generators, and of an action space's, as tensors and numbers.

    The words of a Mersenne Twister are int64 tensors, since torch has no full uint32.
    """
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    generator = getattr(action_space, "_np_random", None)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": {
            "key": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "action_space": None if generator is None else generator.bit_generator.state,
    }


def restore_rng(state: dict[str, Any], action_space: Any = None) -> None:
    """Restore what `capture_rng` returned; ValueError or TypeError for anything else."""
    legacy, python = state["numpy"], state["python"]
    if not 0 <= legacy["pos"] <= WORDS:  # numpy would read beyond its array
        raise ValueError(f"numpy's position: got {legacy['pos']}, expected 0 to {WORDS}")
    if not isinstance(python["gauss"], float | None):
        raise ValueError(f"Python's next number: got {python['gauss']!r}, expected a number")
    torch.set_rng_state(state["torch"])
    key = legacy["key"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        ("MT19937", key, legacy["pos"], legacy["has_gauss"], legacy["gauss"])
    )
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    if torch.cuda.is_available():
        for index, device in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(device, index)
    if state["action_space"] is not None and action_space is not None:
        action_space.np_random.bit_generator.state = state["action_space"]


@contextlib.contextmanager
def preserve_rng(agent: Any = None) -> Iterator[None]:
    """Restore every global generator when the block ends, even by an exception.

    With an `agent`, restore also the generator of its action space and the extra state of the
    modules of its policy, where vaerl's policies keep their own streams.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> with preserve_rng():
    ...     drawn = torch.rand(1)
    >>> bool(torch.rand(1) == drawn)
    True
    """
    space = getattr(agent, "action_space", None)
    policy = getattr(agent, "policy", None)
    modules = policy.modules() if isinstance(policy, torch.nn.Module) else ()
    heads = [
        (module, copy.deepcopy(module.get_extra_state()))
        for module in modules
        if type(module).get_extra_state is not torch.nn.Module.get_extra_state
    ]
    before = capture_rng(space)
    try:
        yield
    finally:
        restore_rng(before, space)
        for module, state in heads:
            module.set_extra_state(state)
