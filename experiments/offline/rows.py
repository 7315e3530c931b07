"""The rows of the table: an agent and a density each, with settings as alike as they can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WIDE = [256, 256]
_COMMON: dict[str, Any] = {"batch_size": 256, "learning_rate": 1e-3}
_JUDGED: dict[str, Any] = {
    **_COMMON,
    "gamma": 0.99,
    "policy_kwargs": {"net_arch": _WIDE, "critic_arch": _WIDE, "wavelengths": []},
}
_CLONED: dict[str, Any] = {
    **_COMMON,
    "chunk": 1,
    "execute": 1,
    "history": 1,
    "policy_kwargs": {"net_arch": _WIDE, "wavelengths": []},
}
_LATENT = {**_JUDGED["policy_kwargs"], "latent_arch": _WIDE}


@dataclass(frozen=True)
class Row:
    """What is trained, and how."""

    agent: str
    density: str
    settings: Mapping[str, Any]


ROWS: dict[str, Row] = {
    "iql-gaussian": Row("iql", "gaussian", _JUDGED),
    "iql-cvae": Row("iql", "cvae", _JUDGED),
    "idql-cvae": Row("idql", "cvae", _JUDGED),
    "plas-cvae": Row("plas", "cvae", {**_JUDGED, "policy_kwargs": _LATENT}),
    "bc-gaussian": Row("bc", "gaussian", _CLONED),
    "bc-cvae": Row("bc", "cvae", _CLONED),
}
