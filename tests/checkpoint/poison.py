"""Checkpoints made by somebody who means ill, or by a broken disk: one function a case.

Each case takes a fresh copy of a good checkpoint and spoils it. Where the manifest's hash would
give the change away, `put` mends the hash, as a forger would.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

HARMLESS = "harmless"  # cases whose name starts so must load: the poison is never looked at
Case = Callable[[Path], None]
CASES: dict[str, Case] = {}
POLICY, OPTIM, RNG, MANIFEST = (
    "policy.safetensors",
    "optim.safetensors",
    "rng.safetensors",
    "manifest.json",
)


class Bomb:
    """Unpickling it writes a file named SENTINEL where the loading process stands."""

    def __reduce__(self) -> Any:
        return os.system, ("touch SENTINEL",)


BOMB = pickle.dumps(Bomb())


def case(name: str) -> Callable[[Case], Case]:
    def register(function: Case) -> Case:
        assert name not in CASES, name
        CASES[name] = function
        return function

    return register


def put(folder: Path, name: str, data: bytes, mend: bool = True) -> None:
    """Replace a payload, and its bytes and hash in the manifest."""
    (folder / name).write_bytes(data)
    if mend:
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        edit(folder, lambda m: m["files"].__setitem__(name, entry))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest in place."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def at(*keys: Any, value: Any) -> Case:
    """Put `value` at a place in the manifest."""

    def change(folder: Path) -> None:
        def walk(manifest: dict[str, Any]) -> None:
            inner: Any = manifest
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value

        edit(folder, walk)

    return change


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: Any, payload: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def reheader(folder: Path, change: Callable[[dict[str, Any]], Any], name: str = POLICY) -> None:
    """Change the header of a safetensors file."""
    header, payload = split((folder / name).read_bytes())
    put(folder, name, join(change(header) or header, payload))


def first(header: dict[str, Any]) -> dict[str, Any]:
    """The entry of the first tensor with two axes."""
    return next(e for k, e in header.items() if k != "__metadata__" and len(e["shape"]) == 2)


def retensor(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], name: str) -> None:
    """Change the tensors of a file, properly."""
    from safetensors import torch as st

    tensors = st.load((folder / name).read_bytes())
    change(tensors)
    put(folder, name, st.save(tensors))


# Something else in the place of tensors or JSON.

for _name in (POLICY, OPTIM, RNG):
    case(f"pickle in {_name}")(lambda d, n=_name: put(d, n, BOMB))
    case(f"empty {_name}")(lambda d, n=_name: put(d, n, b""))
    case(f"missing {_name}")(lambda d, n=_name: os.unlink(d / n))
    case(f"cut {_name}")(lambda d, n=_name: put(d, n, (d / n).read_bytes()[:-3], mend=False))
    case(f"cut {_name}, hash mended")(lambda d, n=_name: put(d, n, (d / n).read_bytes()[:-3]))


@case("a torch zip named safetensors")
def _(folder: Path) -> None:
    out = BytesIO()
    torch.save({"weights": Bomb()}, out)
    put(folder, POLICY, out.getvalue())


@case("an object array named safetensors")
def _(folder: Path) -> None:
    out = BytesIO()
    np.save(out, np.array([Bomb()], dtype=object), allow_pickle=True)
    put(folder, POLICY, out.getvalue())


@case("a polyglot of safetensors and zip")
def _(folder: Path) -> None:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.pkl", BOMB)
    put(folder, POLICY, (folder / POLICY).read_bytes() + out.getvalue())


case("pickle as manifest")(lambda d: (d / MANIFEST).write_bytes(BOMB))
case("YAML as manifest")(
    lambda d: (d / MANIFEST).write_text('!!python/object/apply:os.system ["touch SENTINEL"]')
)
case("empty manifest")(lambda d: (d / MANIFEST).write_bytes(b""))
case("missing manifest")(lambda d: os.unlink(d / MANIFEST))
case("cut manifest")(lambda d: (d / MANIFEST).write_bytes((d / MANIFEST).read_bytes()[:-40]))
case("manifest with a byte order mark")(
    lambda d: (d / MANIFEST).write_bytes(b"\xef\xbb\xbf" + (d / MANIFEST).read_bytes())
)
case("manifest in UTF-16")(
    lambda d: (d / MANIFEST).write_bytes((d / MANIFEST).read_text().encode("utf-16"))
)
case("manifest of 20 MB")(lambda d: os.truncate(d / MANIFEST, 20_000_000))
case("manifest that is a list")(lambda d: (d / MANIFEST).write_text("[]"))
case("manifest nested 100000 deep")(lambda d: (d / MANIFEST).write_text("[" * 100_000))
case("manifest nested 200 deep")(
    lambda d: (d / MANIFEST).write_text('{"format":1,"x":' + "[" * 200 + "]" * 200 + "}")
)


def _text(old: str, new: str) -> Case:
    def change(folder: Path) -> None:
        text = (folder / MANIFEST).read_text()
        assert old in text, old
        (folder / MANIFEST).write_text(text.replace(old, new, 1))

    return change


case("a key twice")(_text('"format": 1', '"format": 1, "format": 1'))
case("NaN")(_text('"gamma": 0.99', '"gamma": NaN'))
case("Infinity")(_text('"gamma": 0.99', '"gamma": -Infinity'))
case("1e999")(_text('"gamma": 0.99', '"gamma": 1e999'))
case("an integer of 5000 digits")(_text('"gamma": 0.99', '"gamma": ' + "9" * 5000))
case("half a surrogate pair")(_text('"name": "sb3-sac"', '"name": "sb3-sac\\ud800"'))
case("a very long string")(_text('"name": "sb3-sac"', f'"name": "{"x" * 2_000_000}"'))


# Links, devices, other places.


@case("a link to the payload")
def _(folder: Path) -> None:
    os.rename(folder / POLICY, folder.parent / "elsewhere")
    os.symlink(folder.parent / "elsewhere", folder / POLICY)


@case("a link to the manifest")
def _(folder: Path) -> None:
    os.rename(folder / MANIFEST, folder.parent / "manifest-elsewhere")
    os.symlink(folder.parent / "manifest-elsewhere", folder / MANIFEST)


@case("a link in place of the directory")
def _(folder: Path) -> None:
    os.rename(folder, folder.parent / "real")
    os.symlink(folder.parent / "real", folder)


@case("a hard link to another file")
def _(folder: Path) -> None:
    os.unlink(folder / POLICY)
    os.link(folder / OPTIM, folder / POLICY)


@case("a FIFO as payload")
def _(folder: Path) -> None:
    os.unlink(folder / POLICY)
    os.mkfifo(folder / POLICY)


@case("a FIFO as manifest")
def _(folder: Path) -> None:
    os.unlink(folder / MANIFEST)
    os.mkfifo(folder / MANIFEST)


@case("a directory as payload")
def _(folder: Path) -> None:
    os.unlink(folder / POLICY)
    os.mkdir(folder / POLICY)


@case("a socket as payload")
def _(folder: Path) -> None:
    os.unlink(folder / POLICY)
    here = os.getcwd()
    os.chdir(folder)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(POLICY)
    finally:
        os.chdir(here)


for _path in (
    "../policy.safetensors",
    "/etc/passwd",
    "a/../policy.safetensors",
    "policy.safetensors\x00",
    "..",
    "model.pkl",
    "replay-1.safetensors",
):
    case(f"a file named {_path!r}")(
        lambda d, p=_path: edit(
            d, lambda m: m["files"].__setitem__(p, m["files"]["policy.safetensors"])
        )
    )
case("harmless: a pickle beside, not listed")(lambda d: (d / "data.pkl").write_bytes(BOMB))
case("harmless: a listed LATEST of lies")(
    lambda d: (d.parent / "LATEST").write_text("../../../../etc")
)

# Headers of safetensors.

case("a header of 2^63 bytes")(
    lambda d: put(d, POLICY, struct.pack("<Q", 2**63) + (d / POLICY).read_bytes()[8:])
)
case("a header beyond the file")(
    lambda d: put(d, POLICY, struct.pack("<Q", 10**6) + (d / POLICY).read_bytes()[8:])
)
for _what, _shape in {
    "10^9 elements": [10**9],
    "a shape that overflows": [2**31, 2**31, 2**31],
    "a negative shape": [-1, -1],
    "a shape of floats": [4.0, 2.0],
    "a shape of bools": [True, True],
    "a shape that is text": "88",
    "a shape of nothing": None,
}.items():
    case(_what)(lambda d, s=_shape: reheader(d, lambda h: first(h).update(shape=s)))
case("a negative offset")(
    lambda d: reheader(d, lambda h: first(h).update(data_offsets=[-8, first(h)["data_offsets"][1]]))
)
case("offsets beyond the file")(
    lambda d: reheader(d, lambda h: first(h).update(data_offsets=[0, 10**12]))
)


@case("overlapping offsets")
def _(folder: Path) -> None:
    def overlap(header: dict[str, Any]) -> None:
        names = [n for n in header if n != "__metadata__"]
        one, two = (header[n] for n in names[:2])
        two.update(one)

    reheader(folder, overlap)


@case("a hole between tensors")
def _(folder: Path) -> None:
    header, payload = split((folder / POLICY).read_bytes())
    for entry in header.values():
        if "data_offsets" in entry:
            entry["data_offsets"] = [n + 8 for n in entry["data_offsets"]]
    put(folder, POLICY, join(header, b"\0" * 8 + payload))


@case("a header key twice")
def _(folder: Path) -> None:
    header, payload = split((folder / POLICY).read_bytes())
    name, entry = next((n, e) for n, e in header.items() if n != "__metadata__")
    text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}"
    put(folder, POLICY, join(text.encode(), payload))


case("a header that is a list")(lambda d: put(d, POLICY, join([], b"")))
case("a header without tensors")(lambda d: put(d, POLICY, join({}, b"")))
case("a header nested deep")(lambda d: put(d, POLICY, join(b"[" * 100_000, b"")))
case("an unknown dtype")(lambda d: reheader(d, lambda h: first(h).update(dtype="O")))
case("a dtype of the same size")(lambda d: reheader(d, lambda h: first(h).update(dtype="I32")))

# Tensors that are proper, and wrong.


def _value(number: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: tensors["policy/actor.mu.weight"].fill_(number)


case("a tensor of NaN")(lambda d: retensor(d, _value(float("nan")), POLICY))
case("a tensor is missing")(
    lambda d: retensor(d, lambda t: t.pop("policy/actor.mu.weight"), POLICY)
)
case("a tensor too many")(lambda d: retensor(d, lambda t: t.update(x=torch.zeros(2)), POLICY))
case("a tensor of another shape")(
    lambda d: retensor(d, lambda t: t.update({"policy/actor.mu.weight": torch.zeros(3, 3)}), POLICY)
)
case("a variable of another shape")(
    lambda d: retensor(d, lambda t: t.update({"variable/log_ent_coef": torch.zeros(9)}), POLICY)
)


def _moment(tensors: dict[str, torch.Tensor]) -> None:
    name = next(n for n in tensors if n.endswith("mu.weight/exp_avg"))
    tensors[name] = torch.zeros(500)


case("a moment of another shape")(lambda d: retensor(d, _moment, OPTIM))
case("random words beyond 32 bits")(lambda d: retensor(d, lambda t: t["numpy"].fill_(2**40), RNG))
case("a short random state")(
    lambda d: retensor(d, lambda t: t.update(torch=torch.zeros(4, dtype=torch.float32)), RNG)
)
case("too few random words")(
    lambda d: retensor(d, lambda t: t.update(python=torch.ones(9, dtype=torch.int64)), RNG)
)
case("a torch state of the wrong length")(
    lambda d: retensor(d, lambda t: t.update(torch=torch.zeros(40, dtype=torch.uint8)), RNG)
)
