"""The files of an exported policy: two ONNX models that say what they are, and their loader."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from gymnasium import spaces

from vaerl.disk import files
from vaerl.export.check import TOLERANCE, Check, check, observations
from vaerl.export.graph import Graph, parts_of
from vaerl.export.loader import Policy
from vaerl.policies.density_policy import DensityPolicy
from vaerl.policies.hold import EPISODE, ZETA, ZETA_CAP, zeta_shares

DRAWN, BEST, LOADER = "policy.onnx", "deterministic.onnx", "policy.py"
OBSERVATIONS = 10_000


def export_policy(agent: Any, folder: Path, count: int = OBSERVATIONS) -> Check:
    """Write the policy of an agent to `folder` and compare it with the agent's `predict`.

    Args:
        agent: an agent whose policy is over a density, with its environment.
        folder: receives policy.onnx, deterministic.onnx and policy.py.
        count: observations of the check, whose result both models carry as metadata.

    Raises:
        ValueError: an agent that plans or whose policy is none over a density; answers that
            differ by more than 1e-5 half widths of the action's box.
    """
    check_policy(type(agent))
    if not isinstance(agent.policy, DensityPolicy):
        raise ValueError(f"policy: got {type(agent.policy).__name__}, expected one over a density")
    graph = Graph(agent.policy.acting, agent.get_env())
    models = graph.models()
    about = describe(graph)
    files.make_directory(folder)
    files.write_bytes(folder / LOADER, Path(__file__).with_name("loader.py").read_bytes())
    write(folder, models, about)
    exported = Policy(folder, seed=0)
    found = check(graph, agent, exported, observations(agent.get_env(), exported, count))
    write(
        folder, models, about | {"check": asdict(found) | {"onnxruntime": onnxruntime.__version__}}
    )
    worst = max(found.drawn, found.deterministic)
    if not worst <= TOLERANCE:
        raise ValueError(f"export: got a difference of {worst:.2g}, expected at most {TOLERANCE:g}")
    return found


def check_policy(agent: type) -> None:
    """Raise one line for an agent that has no policy to export."""
    if getattr(agent, "plans", False):
        raise ValueError(
            f"agent: got {agent.__name__}, which plans in a learned model and has no policy to "
            "export"
        )


def write(folder: Path, models: Any, about: dict[str, Any]) -> None:
    """Write both models, with what the loader must know of them."""
    for name, model in zip((DRAWN, BEST), models, strict=True):
        onnx.helper.set_model_props(model, {"vaerl": json.dumps(about)})
        files.write_bytes(folder / name, model.SerializeToString())


def describe(graph: Graph) -> dict[str, Any]:
    """What the loader must know, as plain data."""
    rhythm, action = graph.rhythm, graph.policy.action_space
    limit = {EPISODE: 0, ZETA: ZETA_CAP}.get(rhythm.hold, rhythm.hold)
    return {
        "inputs": {
            key: {"shape": list(part.shape or ()), "dtype": str(np.dtype(part.dtype))}
            for key, part in parts_of(graph.space).items()
        },
        "dict": isinstance(graph.space, spaces.Dict),
        "action": {"shape": list(action.shape), "dtype": str(action.dtype)},
        "history": rhythm.history,
        "chunk": rhythm.chunk,
        "execute": rhythm.execute,
        "noise": [[draw.law, draw.width] for draw in graph.layout],
        "held": graph.noise_size if rhythm.held is None else rhythm.held,
        "limit": limit,
        "lengths": zeta_shares().tolist() if rhythm.hold == ZETA else [],
    }
