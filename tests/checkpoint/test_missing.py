"""A checkpoint that lacks something, as an older version or a broken disk leaves it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.agents.test_finite import CLONERS, DATA, LEARNERS, TINY, learn, make
from vaerl.checkpoint import find_checkpoint, save_checkpoint
from vaerl.checkpoint.load import restore
from vaerl.checkpoint.read import Checkpoint
from vaerl.checkpoint.tensors import unpack
from vaerl.disk.errors import VaerlLoadError

DEEPEST = 4


def keys(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places of a packed tree; of entries with the same keys, those of the first."""
    if not isinstance(tree, dict) or len(path) > DEEPEST:
        return
    alike: list[Any] = []
    for key, inner in tree.items():
        yield (*path, key)
        shape = sorted(inner.get("items", inner)) if isinstance(inner, dict) else None
        if shape not in alike:
            alike.append(shape)
            yield from keys(inner, (*path, key))


def lacking(checkpoint: Checkpoint, path: tuple[str, ...]) -> Checkpoint:
    """The checkpoint without the entry at `path` of its manifest, and without its tensors."""
    manifest = copy.deepcopy(checkpoint.manifest)
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    used: set[str] = set()
    for part in manifest.get("state", {}).values():
        try:
            unpack(part, checkpoint.tensors, "", used)
        except VaerlLoadError:
            used = set(checkpoint.tensors)
            break
    return replace(
        checkpoint,
        manifest=manifest,
        tensors={name: tensor for name, tensor in checkpoint.tensors.items() if name in used},
    )


def agent_of(name: str) -> Any:
    if name in LEARNERS:
        return learn(make(name), 30)
    cls, options = CLONERS[name]
    options = {**options, "average": 0.9} if name == "bc" else options
    return cls("cvae", data=DATA, batch_size=8, policy_kwargs=TINY, **options).learn(4)


@pytest.mark.parametrize("name", [*LEARNERS, *CLONERS])
def test_what_is_missing_is_named(name: str, tmp_path: Path) -> None:
    """Whatever entry of the state of any agent."""
    agent = agent_of(name)
    checkpoint = find_checkpoint(save_checkpoint(agent, tmp_path, described=name in LEARNERS))
    restore(agent, checkpoint, rng=True)
    named = 0
    for top in ("state", "counters", "spaces", "seed"):
        for path in ((top,), *keys(checkpoint.manifest[top], (top,))):
            try:
                restore(agent, lacking(checkpoint, path), rng=True)
            except VaerlLoadError as error:
                assert "Error(" not in str(error), (path, error)
                named += f"'{path[-1]}' is missing; it is damaged" in str(error)
    assert named > 20
