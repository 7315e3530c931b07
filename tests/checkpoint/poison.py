"""Checkpoints made by somebody who means ill, or by a broken disk: one function a case.

Each case takes a fresh copy of a good checkpoint and spoils it. Where the manifest's hash would
give the change away, `put` mends the hash, as a forger would.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors_torch

Case = Callable[[Path], Any]
AGENT, MANIFEST = "agent.safetensors", "manifest.json"


class Bomb:
    """Unpickling it writes a file named SENTINEL where the loading process stands."""

    def __reduce__(self) -> Any:
        return os.system, ("touch SENTINEL",)


BOMB = pickle.dumps(Bomb())


def put(folder: Path, data: bytes, mend: bool = True) -> None:
    """Replace the tensors, and their bytes and hash in the manifest."""
    (folder / AGENT).write_bytes(data)
    if mend:
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        at("files", AGENT, value=entry)(folder)


def at(*keys: Any, value: Any) -> Case:
    """Put `value` at a place in the manifest."""

    def change(folder: Path) -> None:
        inner = manifest = json.loads((folder / MANIFEST).read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return change


def without(key: str) -> Case:
    """Take a key out of the manifest."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        del manifest[key]
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return change


def text(old: str, new: str) -> Case:
    """Replace a piece of the manifest."""

    def change(folder: Path) -> None:
        before = (folder / MANIFEST).read_text()
        assert old in before, old
        (folder / MANIFEST).write_text(before.replace(old, new, 1))

    return change


def header(**changes: Any) -> Case:
    """Change the header of the first tensor with two axes."""

    def change(folder: Path) -> None:
        data = (folder / AGENT).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        entries = json.loads(data[8 : 8 + length])
        next(e for e in entries.values() if len(e.get("shape", ())) == 2).update(changes)
        new = json.dumps(entries).encode()
        put(folder, struct.pack("<Q", len(new)) + new + data[8 + length :])

    return change


def tensor(ending: str, value: Any) -> Case:
    """Replace the first tensor whose name ends so; None takes it out."""

    def change(folder: Path) -> None:
        tensors = safetensors_torch.load((folder / AGENT).read_bytes())
        name = next((name for name in sorted(tensors) if name.endswith(ending)), ending)
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value
        put(folder, safetensors_torch.save(tensors))

    return change


def torch_zip(folder: Path) -> None:
    """What torch.save writes, under the name of the tensors."""
    out = BytesIO()
    torch.save({"weights": Bomb()}, out)
    put(folder, out.getvalue())


def polyglot(folder: Path) -> None:
    """A safetensors file that is a zip archive as well."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.pkl", BOMB)
    put(folder, (folder / AGENT).read_bytes() + out.getvalue())


def moved(name: str, place: Callable[[Path, Path], Any]) -> Case:
    """Move a file away and put something else in its place."""

    def change(folder: Path) -> None:
        os.rename(folder / name, folder.parent / f"away-{name}")
        place(folder.parent / f"away-{name}", folder / name)

    return change


OPTIONS, KWARGS = ("agent", "agent_options"), ("agent", "agent_options", "policy_kwargs")
RNG = ("state", "rng", "items")
ADAM = (*("state", "optimizers", "items", "actor.optimizer", "items", "groups"), 0, "items")

CASES: dict[str, Case] = {
    # something else in the place of tensors or JSON
    "pickle as tensors": lambda d: put(d, BOMB),
    "a torch zip as tensors": torch_zip,
    "safetensors and zip in one": polyglot,
    "no tensors": lambda d: put(d, b""),
    "cut tensors": lambda d: put(d, (d / AGENT).read_bytes()[:-3], mend=False),
    "cut tensors, hash mended": lambda d: put(d, (d / AGENT).read_bytes()[:-3]),
    "pickle as manifest": lambda d: (d / MANIFEST).write_bytes(BOMB),
    "YAML as manifest": lambda d: (d / MANIFEST).write_text(
        '!!python/object/apply:os.system ["x"]'
    ),
    "an empty manifest": lambda d: (d / MANIFEST).write_bytes(b""),
    "a manifest of 20 MB": lambda d: os.truncate(d / MANIFEST, 20_000_000),
    "a manifest that is a list": lambda d: (d / MANIFEST).write_text("[]"),
    "a manifest nested 100000 deep": lambda d: (d / MANIFEST).write_text("[" * 100_000),
    "a key twice": text('"format": 3', '"format": 3, "format": 3'),
    "NaN": text('"gamma": 0.99', '"gamma": NaN'),
    "an integer of 5000 digits": text('"gamma": 0.99', f'"gamma": {"9" * 5000}'),
    # links, devices, other places
    "missing tensors": moved(AGENT, lambda old, new: None),
    "missing manifest": moved(MANIFEST, lambda old, new: None),
    "a link to the tensors": moved(AGENT, lambda old, new: os.symlink(old, new)),
    "a link to the manifest": moved(MANIFEST, lambda old, new: os.symlink(old, new)),
    "a FIFO as tensors": moved(AGENT, lambda old, new: os.mkfifo(new)),
    "a FIFO as manifest": moved(MANIFEST, lambda old, new: os.mkfifo(new)),
    "a directory as tensors": moved(AGENT, lambda old, new: os.mkdir(new)),
    "a file above": at("files", "../agent.safetensors", value={}),
    "a file elsewhere": at("files", "/etc/passwd", value={}),
    "a pickle among the files": at("files", "model.pkl", value={}),
    # what the manifest says
    **{
        f"a manifest without {key}": without(key)
        for key in ("format", "counters", "files", "state")
    },
    **{f"format {n!r}": at("format", value=n) for n in (2, 99, "3", None)},
    "the hash of something else": at("files", AGENT, "sha256", value="0" * 64),
    "a step below zero": at("counters", "num_timesteps", value=-1),
    "a step that is text": at("counters", "num_timesteps", value="8"),
    "another observation space": at("spaces", "observation space", value="Box (3,) float32"),
    # tensors: headers, then proper ones in the wrong place
    "a header of 2^63 bytes": lambda d: put(d, struct.pack("<Q", 2**63) + b"{}"),
    "10^9 elements": header(shape=[10**9]),
    "a shape that overflows": header(shape=[2**31, 2**31, 2**31]),
    "a negative shape": header(shape=[-1, -1]),
    "offsets beyond the file": header(data_offsets=[0, 10**12]),
    "overlapping offsets": header(data_offsets=[0, 8]),
    "an unknown dtype": header(dtype="O"),
    "a tensor of NaN": tensor("actor.mu.bias", torch.full((1,), float("nan"))),
    "a tensor is missing": tensor("actor.mu.bias", None),
    "a tensor too many": tensor("modules/policy/x", torch.zeros(2)),
    "a tensor of another shape": tensor("actor.mu.bias", torch.zeros(3)),
    "a tensor of another dtype": tensor("actor.mu.bias", torch.zeros(1, dtype=torch.float64)),
    "a moment of another shape": tensor("0/exp_avg", torch.zeros(500)),
    "a moment of nothing": tensor("optimizers/actor.optimizer/x/exp_avg", torch.zeros(5)),
    # random generators
    "numpy's position out of its array": at(*RNG, "numpy", "items", "pos", value=10**9),
    "Python's next number as text": at(*RNG, "python", "items", "gauss", value="x"),
    "an action stream of words": at(*RNG, "action_space", value={"items": {"state": "x"}}),
    "a torch state of the wrong length": tensor("rng/torch", torch.zeros(40, dtype=torch.uint8)),
    "too few random words": tensor("rng/numpy/key", torch.ones(9, dtype=torch.int64)),
    # the description
    **{
        f"agent {name!r}": at("agent", "agent", value=name)
        for name in ("os.system", "stable_baselines3.SAC", "SB3-SAC", "", 7)
    },
    **{
        f"policy {name!r}": at("agent", "density", value=name)
        for name in ("torch.nn.Module", "__class__", 7)
    },
    **{
        f"environment {name!r}": at("agent", "env", value=name)
        for name in ("this:Corridor-v0", "", "Nothing-v0")
    },
    "an option of no environment": at("agent", "env_options", value={"speed": 1}),
    "a negative number of environments": at("agent", "n_envs", value=-1),
    **{
        f"activation {value!r}": at(*KWARGS, "activation_fn", value=value)
        for value in ({"class": "subprocess.Popen"}, {"class": ["ReLU"]}, {"class": "Adam"}, "eval")
    },
    "an activation as optimizer": at(*KWARGS, "optimizer_class", value={"class": "ReLU"}),
    "an unknown policy argument": at(*KWARGS, "__class__", value="x"),
    "a buffer by text": at(*OPTIONS, "replay_buffer_class", value="builtins.exec"),
    "an unknown argument": at(*OPTIONS, "custom_objects", value={}),
    "a log on disk": at(*OPTIONS, "tensorboard_log", value="logs"),
    "a buffer of 10^15 rows": at(*OPTIONS, "buffer_size", value=10**15),
    "a network of 10^9 weights": at(*KWARGS, "net_arch", value=[30_000, 30_000]),
    "net_arch of text": at(*KWARGS, "net_arch", value=["8"]),
    "a learning rate that is text": at(*OPTIONS, "learning_rate", value="3e-4"),
    # settings of optimizers, replay buffer
    "no optimizer": at("state", "optimizers", value={"items": {}}),
    "a learning rate of an optimizer that is text": at(*ADAM, "lr", value="x"),
    "a state that is no tree": at("state", "modules", value={"x": 1}),
    "a replay buffer of other size": at("replay", "buffer_size", value=5),
    "a replay buffer of too many rows": at("replay", "rows", value=10**9),
    "a position outside the buffer": at("replay", "pos", value=-1),
}
