"""Folders of runs made by somebody who means ill, or by a broken disk: one function a case."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.poison.changes import (
    CONFIG,
    EVALUATION,
    METRICS,
    PICTURE,
    STATUS,
    Case,
    content,
    instead,
    sparse,
    value,
)
from tests.poison.configurations import configurations

NOT_FILES: dict[str, Callable[[Path], Any]] = {
    "FIFO": os.mkfifo,
    "/dev/zero": lambda place: os.symlink("/dev/zero", place),
    "folder": os.mkdir,
    "sparse": sparse,
    "nowhere": lambda place: os.symlink("nowhere", place),
    "/proc": lambda place: os.symlink("/proc/self/environ", place),
}
NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "a list": b"[]",
    "text": b"hello",
    "bytes": bytes(range(256)),
    "BOM": b'\xef\xbb\xbf{"agent": "sac"}',
    "NaN": b'{"agent": NaN}',
    "twice": b'{"agent": "sac", "agent": "sac"}',
    "deep": b"[" * 100_000,
    "deep and closed": b'{"env_options": ' * 500 + b"1" + b"}" * 500,
    "17 MB": b'{"agent": "' + b"x" * 17_000_000 + b'"}',
    "digits": b'{"agent": ' + b"9" * 4000 + b"}",
    "surrogate": b'{"agent": "\\ud800"}',
}


def png(width: int, height: int) -> bytes:
    """A black picture, whole and well packed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        length = struct.pack(">I", len(data))
        return length + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    row = b"\0" * (3 * width + 1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def pictures(first: bytes, second: bytes = b"") -> Case:
    """Two pictures of the density: a report shows the history from two on."""

    def change(run: Path) -> None:
        (run / "figures").mkdir(exist_ok=True)
        (run / PICTURE).write_bytes(first)
        (run / "figures" / "density-000000002.png").write_bytes(second or png(8, 8))

    return change


def picture(make: Callable[[Path], Any]) -> Case:
    """Two pictures of the density, the first of which is something else."""

    def change(run: Path) -> None:
        pictures(b"")(run)
        (run / PICTURE).unlink()
        make(run / PICTURE)

    return change


def rows(*lines: str | dict[str, Any]) -> Case:
    """Lines added to the log."""

    def change(run: Path) -> None:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        with (run / METRICS).open("a") as log:
            log.writelines(text + "\n" for text in texts)

    return change


def million(run: Path) -> None:
    """A log of a million rows."""
    with (run / METRICS).open("a") as log:
        for start in range(0, 1_000_000, 10_000):
            log.write(
                "".join(
                    f'{{"global_step": {n}, "time": 1.0, "rollout/ep_rew": 1.5}}\n'
                    for n in range(start, start + 10_000)
                )
            )


def checkpoints(run: Path) -> Path:
    """The newest checkpoint."""
    return max((run / "checkpoints").iterdir())


def inside(name: str, make: Callable[[Path], Any]) -> Case:
    """Something else where a file of the newest checkpoint is."""

    def change(run: Path) -> None:
        place = checkpoints(run) / name
        place.unlink()
        make(place)

    return change


def whole(make: Callable[[Path, Path], Any]) -> Case:
    """Something else where the newest checkpoint is."""

    def change(run: Path) -> None:
        place = checkpoints(run)
        os.rename(place, run.parent / "away")
        make(run.parent / "away", place)

    return change


def raw(name: str) -> Iterator[tuple[str, Case]]:
    """Something that is no JSON file, in the place of one."""
    for kind, make in NOT_FILES.items():
        yield kind, instead(name, make)
    yield (
        "a link out of the run",
        instead(name, lambda place: os.symlink(place.parent.parent / "away", place)),
    )
    for kind, data in NOT_JSON.items():
        yield kind, content(name, data)


def statuses() -> Iterator[tuple[str, Case]]:
    """Cases of status.json."""
    for key, values in {
        "state": ["evil", 5, None, []],
        "steps": [-1, 10**40, "x", 1.5, True],
        "train_seconds": ["x", -1, 1e308, [], True],
        "train_steps": ["x", 10**400],
        "error": ["x" * 100_000, 5],
    }.items():
        for number, given in enumerate(values):
            yield f"{key} {number}", value(STATUS, key, to=given)


def logs() -> Iterator[tuple[str, Case]]:
    """Cases of metrics.jsonl."""
    step = {"global_step": 70}
    for name, lines in {
        "no JSON": ["hello"],
        "half a row": ['{"global_step": 1, "x'],
        "a list": ["[1]"],
        "no step": ["{}"],
        "a negative step": ['{"global_step": -1}'],
        "a huge step": [{"global_step": 10**40, "rollout/ep_rew": 1.0}] * 3,
        "a step of text": ['{"global_step": "x"}'],
        "texts": [{**step, "rollout/ep_rew": "x", "eval/return_mean": "y"}] * 3,
        "lists": [{**step, "rollout/ep_rew": [1, 2], "time": {}}] * 3,
        "flags": [{**step, "rollout/ep_rew": True, "time": False}] * 3,
        "null": [{**step, "rollout/ep_rew": None}] * 3,
        "huge": [{**step, "rollout/ep_rew": v} for v in (1e308, -1e308, 1e308, 10**300)],
        "digits": [{**step, "rollout/ep_rew": 10**400}] * 2,
        "infinite": [{**step, "rollout/ep_rew": v} for v in ("inf", "-inf", "nan")],
        "1e400": ['{"global_step": 1, "rollout/ep_rew": 1e400}'] * 2,
        "NaN": ['{"global_step": 1, "rollout/ep_rew": NaN}'] * 2,
        "steps that fall": [{"global_step": n, "rollout/ep_rew": 1.0} for n in range(9, 0, -1)],
        "a step twice": [{**step, "rollout/ep_rew": float(n)} for n in range(9)],
        "a surrogate": ['{"global_step": 1, "\\ud800": 1.0, "note": "\\udfff"}'],
        "markup": [{**step, "<script>alert(1)</script>": 1.0, "eval/$x^{": 2.0}] * 2,
        "mathematics": [{**step, "latent/kl_layer_1": 1.0, "rollout/ep_rew_mean": "$\\frac{"}] * 2,
        "a long key": [{**step, "k" * 1_000_000: 1.0}] * 2,
        "many keys": [{**step, **{f"key{n}": n for n in range(100_000)}}],
        "many layers": [{**step, **{f"latent/kl_layer_{n}": 1.0 for n in range(1000)}}] * 3,
        "many goals": [{**step, **{f"eval/goal_share_{n}": 0.1 for n in range(1000)}}] * 3,
        "shares of text": [{**step, "eval/goal_share_0": "x"}] * 3,
        "a goal of many digits": [{**step, "eval/goal_share_" + "9" * 5000: 0.1}] * 3,
        "shares of anything": [{**step, "eval/goal_share_0": v} for v in (-5.0, 1e308, "nan")],
        "deep": ['{"global_step": 1, "x": ' + "[" * 900 + "]" * 900 + "}"],
        "long": ['{"global_step": 1, "x": "' + "y" * 30_000_000 + '"}'],
        "keys that differ": [{**step, f"key{n}": 1.0} for n in range(30_000)],
    }.items():
        yield name, rows(*lines)  # type: ignore[arg-type]
    yield "not UTF-8", lambda run: (run / METRICS).write_bytes(b"\xff\xfe\n" * 5)
    yield "zeros", lambda run: (run / METRICS).write_bytes(b"\0" * 1000)
    yield "a million rows", million
    yield "empty", content(METRICS, b"")


def evaluations() -> Iterator[tuple[str, Case]]:
    """Cases of evaluation.json."""
    for keys, values in {
        ("step",): ["x", -1, 10**40],
        ("stochastic",): [5, [], {}],
        ("deterministic",): [5, {"return_mean": "x"}],
        ("stochastic", "return_mean"): ["x", 1e308, None, [], 10**400, True],
        ("stochastic", "success_rate"): ["x", -5],
        ("stochastic", "multi_goal_score"): ["x", 7.0],
        ("stochastic", "goals"): [
            ["x"],
            [10**9],
            [-7],
            [1.5],
            [None],
            5,
            [True],
            [10**40],
            [0] * 1000000,
        ],
        ("stochastic", "env"): [5],
    }.items():
        for number, given in enumerate(values):
            yield f"{'.'.join(keys)} {number}", value(EVALUATION, *keys, to=given)


def figures() -> Iterator[tuple[str, Case]]:
    """Cases of the kept pictures."""
    yield "9000 by 9000", pictures(png(9000, 9000))
    yield "a header of 10^9 pixels", pictures(png(8, 8).replace(b"\0\0\0\x08" * 2, b"\0\1\0\0" * 2))
    yield "no picture", pictures(b"hello")
    yield "empty", pictures(b"")
    yield "cut", pictures(png(300, 300)[:-40])
    yield "a GIF", pictures(b"GIF89a" + b"\0" * 100)
    yield "markup", pictures(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    yield "narrow", pictures(png(1, 5000), png(5000, 1))
    for kind, make in NOT_FILES.items():
        yield kind, picture(make)
    yield (
        "a link out of the run",
        picture(
            lambda place: (
                (place.parents[2] / "away.png").write_bytes(png(30, 30)),
                os.symlink(place.parents[2] / "away.png", place),
            )
        ),
    )
    yield (
        "many",
        lambda run: [
            (run / "figures" / f"density-{n:09d}.png").write_bytes(png(8, 8)) for n in range(300)
        ],
    )
    yield (
        "a long number",
        picture(lambda place: (place.parent / f"density-{'9' * 200}.png").write_bytes(png(8, 8))),
    )


def places() -> Iterator[tuple[str, Case]]:
    """Something else where the folders and files of a run are."""
    for name in ("checkpoints", "figures", "videos", "episodes", "report.html", ".lock"):
        yield (
            f"{name} linked",
            instead(
                name,
                lambda place: (make_there(place), os.symlink(place.parent.parent / "there", place)),
            ),
        )
    for name in ("checkpoints", "figures", "videos", ".lock", "report.html", "error.txt"):
        yield f"{name} a FIFO", instead(name, os.mkfifo)
    for name in ("checkpoints", "figures", "videos"):
        yield f"{name} a file", instead(name, lambda place: place.write_text("x"))
    for name in ("report.html", ".lock", "error.txt"):
        yield f"{name} a folder", instead(name, os.mkdir)


def make_there(place: Path) -> None:
    """What a link leads to: the folder that was there, or an empty file."""
    there, away = place.parent.parent / "there", place.parent.parent / "away"
    if away.exists():
        os.rename(away, there)
    elif place.suffix or place.name.startswith("."):
        there.touch()
    else:
        there.mkdir()


def saved() -> Iterator[tuple[str, Case]]:
    """Cases of checkpoints."""
    for name in ("manifest.json", "agent.safetensors", "replay-00000.safetensors"):
        for kind, make in NOT_FILES.items():
            yield f"{name} {kind}", inside(name, make)
    yield "a linked checkpoint", whole(lambda old, new: os.symlink(old, new))
    yield "a file", whole(lambda old, new: new.write_text("x"))
    yield "a FIFO", whole(lambda old, new: os.mkfifo(new))
    yield "an empty folder", whole(lambda old, new: new.mkdir())
    yield "none", lambda run: os.rename(checkpoints(run), run.parent / "away")
    yield "a link to itself", whole(lambda old, new: os.symlink(new.name, new))


CASES: dict[str, Case] = {
    f"{file}: {name}": case
    for file, cases in {
        "config": configurations(),
        "config raw": raw(CONFIG),
        "status": statuses(),
        "status raw": raw(STATUS),
        "metrics": logs(),
        "metrics raw": ((k, c) for k, c in raw(METRICS) if k in NOT_FILES or "link" in k),
        "evaluation": evaluations(),
        "evaluation raw": raw(EVALUATION),
        "figures": figures(),
        "places": places(),
        "checkpoints": saved(),
    }.items()
    for name, case in cases
}
