"""The process's random generators, taken and put back, so that looking never changes training.

stable-baselines3 draws from three global streams: torch, numpy's legacy generator, and (through
environments) Python's. `preserve_rng` puts them back as they were; `capture_rng` and `restore_rng`
carry them through a checkpoint as tensors and pure data.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from vaerl.disk.errors import VaerlLoadError
from vaerl.disk.jsonio import take

_WORDS = 624  # of a Mersenne Twister's state
Tensors = dict[str, torch.Tensor]


def capture_rng(action_space: Any = None) -> tuple[Tensors, dict[str, Any]]:
    """The global generators, and that of an action space, as (tensors, pure data)."""
    version, words, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    assert version == 3 and kind == "MT19937", (version, kind)
    tensors = {
        "torch": torch.get_rng_state().clone(),
        "numpy": torch.from_numpy(np.asarray(key).astype(np.int64)),
        "python": torch.tensor(words, dtype=torch.int64),
    }
    if torch.cuda.is_available():
        for index, device_state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"cuda.{index}"] = device_state.clone()
    data: dict[str, Any] = {
        "numpy": {
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached_gaussian": float(cached),
        },
        "python": {"gauss_next": gauss},
        "action_space": None,
    }
    generator = getattr(action_space, "_np_random", None)
    if isinstance(generator, np.random.Generator):
        state: Any = generator.bit_generator.state
        if state["bit_generator"] == "PCG64":  # 128-bit words: as text, JSON has 64
            data["action_space"] = {
                "state": str(state["state"]["state"]),
                "inc": str(state["state"]["inc"]),
                "has_uint32": int(state["has_uint32"]),
                "uinteger": int(state["uinteger"]),
            }
    return tensors, data


def check_rng(tensors: Tensors, data: Any, where: str) -> None:
    """Raise VaerlLoadError unless `restore_rng` can take this.

    numpy does not check the position itself and would read beyond its array.
    """
    shapes = {"torch": None, "numpy": (_WORDS,), "python": (_WORDS + 1,)}
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        dtype = torch.uint8 if name == "torch" else torch.int64
        if tensor is None or tensor.dtype != dtype or tensor.dim() != 1:
            raise VaerlLoadError(f"{where}: {name}: missing, or no vector of {dtype}")
        if shape is not None and tuple(tensor.shape) != shape:
            raise VaerlLoadError(f"{where}: {name}: shape {list(tensor.shape)}, not {list(shape)}")
        if dtype == torch.int64 and not bool(((tensor >= 0) & (tensor < 2**32)).all()):
            raise VaerlLoadError(f"{where}: {name}: a word beyond 32 bits")
    if not 1 <= int(tensors["python"][-1]) <= _WORDS:
        raise VaerlLoadError(f"{where}: python: position {int(tensors['python'][-1])}")
    where = f"{where}:rng"
    legacy = take(data, "numpy", dict, where)
    take(legacy, "position", int, f"{where}:numpy", 0, _WORDS)
    take(legacy, "has_gauss", int, f"{where}:numpy", 0, 1)
    take(legacy, "cached_gaussian", float, f"{where}:numpy")
    take(take(data, "python", dict, where), "gauss_next", float, f"{where}:python", default=None)
    space = take(data, "action_space", dict, where, default=None)
    if space is not None:
        where = f"{where}:action_space"
        for key in ("state", "inc"):
            text = take(space, key, str, where)
            if not (text.isascii() and text.isdigit() and len(text) < 40 and int(text) < 2**128):
                raise VaerlLoadError(f"{where}:{key}: expected a 128-bit integer as text")
        take(space, "has_uint32", int, where, 0, 1)
        take(space, "uinteger", int, where, 0, 2**32 - 1)


def restore_rng(tensors: Tensors, data: dict[str, Any], action_space: Any = None) -> None:
    """Put back what `capture_rng` took (and `check_rng` accepted)."""
    torch.set_rng_state(tensors["torch"])
    legacy = data["numpy"]
    key = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        ("MT19937", key, legacy["position"], legacy["has_gauss"], legacy["cached_gaussian"])
    )
    words = tuple(int(word) for word in tensors["python"])
    random.setstate((3, words, data["python"].get("gauss_next")))
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if f"cuda.{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda.{index}"], index)
    state = data.get("action_space")
    if state is not None and action_space is not None:
        generator = action_space.np_random
        generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": int(state["state"]), "inc": int(state["inc"])},
            "has_uint32": state["has_uint32"],
            "uinteger": state["uinteger"],
        }


@contextlib.contextmanager
def preserve_rng(agent: Any = None) -> Iterator[None]:
    """Put every global generator back as it was at entry, whatever happens inside.

    With an `agent`, also that of its action space and whatever a module of its policy keeps as
    `get_extra_state`, which is where vaerl's heads keep their own streams.

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
    tensors, data = capture_rng(space)
    try:
        yield
    finally:
        restore_rng(tensors, data, space)
        for module, state in heads:
            module.set_extra_state(state)
