"""The card of an exported policy: README.md as model hubs read it, with a YAML header.

Texts of a configuration may come from a stranger. In the header every text is a JSON string, which
YAML reads as it stands; below, texts are code on one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaerl.disk.errors import one_line
from vaerl.export.check import Check
from vaerl.runs.config import TrainConfig


class Facts(NamedTuple):
    """What a card says."""

    name: str
    """Of the run."""
    config: TrainConfig
    command: str
    """That made the run."""
    steps: int
    state: str
    """Of the run: finished, stopped, …."""
    evaluation: Mapping[str, Any] | None
    """evaluation.json, if the run has one."""
    versions: Mapping[str, str]
    check: Check
    video: str
    """File name of a video; empty without one."""
    files: Sequence[tuple[str, str]]
    """Names and what they hold."""


def card(facts: Facts) -> str:
    """README.md."""
    return "\n".join(["---", *_yaml(_header(facts)), "---", "", *_body(facts), ""])


def _header(facts: Facts) -> dict[str, Any]:
    config = facts.config
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    header: dict[str, Any] = {
        "library_name": "vaerl",
        "pipeline_tag": "reinforcement-learning",
        "tags": [
            *("reinforcement-learning", "deep-reinforcement-learning", "vaerl", "onnx"),
            *("stable-baselines3", config.env, config.agent, config.density),
        ],
    }
    scores = (facts.evaluation or {}).get("stochastic")
    if scores:
        reward = f"{scores['return_mean']:.2f} +/- {scores['return_std']:.2f}"
        metrics: list[dict[str, Any]] = [
            {"type": "mean_reward", "name": "mean_reward", "value": reward}
        ]
        if "success_rate" in scores:
            rate = round(float(scores["success_rate"]), 4)
            metrics.append({"type": "success_rate", "value": rate})
        dataset = {"name": config.env, "type": config.env}
        result = {
            "task": task,
            "dataset": dataset,
            "metrics": [{"name": m["type"], **m, "verified": False} for m in metrics],
        }
        header["model-index"] = [{"name": facts.name, "results": [result]}]
    return header


def _yaml(data: Any, indent: str = "") -> list[str]:
    """Plain data as YAML whose scalars are JSON."""
    lines = []
    pairs = data.items() if isinstance(data, dict) else [(None, item) for item in data]
    for key, value in pairs:
        start = "-" if key is None else f"{key}:"
        if not isinstance(value, dict | list):
            text = one_line(value) if isinstance(value, str) else value
            lines.append(f"{indent}{start} {json.dumps(text)}")
            continue
        inner = _yaml(value, indent + "  ")
        if key is None:
            lines += [f"{indent}- {inner[0].lstrip()}", *inner[1:]]
        else:
            lines += [f"{indent}{start}", *inner]
    return lines


def code(text: object) -> str:
    """A text as code on one line, whatever it holds.

    >>> code("a`<b>|c")
    "`a'<b>\\\\|c`"
    """
    return "`" + one_line(text).replace("`", "'").replace("|", "\\|") + "`"


def _body(facts: Facts) -> list[str]:
    config, check = facts.config, facts.check
    lines = [
        f"# {code(facts.name)}",
        "",
        f"A policy of agent {code(config.agent)} over the density {code(config.density)}, trained "
        f"for {facts.steps:,} steps on {code(config.env)} with "
        "[Stable-Baselines3](https://github.com/DLR-RM/stable-baselines3) and vaerl.",
        "",
    ]
    if facts.video.endswith(".gif"):
        lines += [f"![An episode]({facts.video})", ""]
    elif facts.video:
        lines += [f"[Video of an episode]({facts.video})", ""]
    lines += [
        "## Act with it",
        "",
        "Without torch: `pip install numpy onnxruntime`, then in this folder",
        "",
        "```python",
        "from policy import load",
        "",
        "policy, state = load(seed=0), None",
        "action, state = policy.predict(observation, state)",
        "```",
        "",
        "The models take the observation as the environment gives it and return actions in the",
        "environment's units; `noise`, an input of `policy.onnx`, decides which action is drawn.",
        "",
        "With vaerl this folder is a run: `vaerl eval FOLDER`, `vaerl video FOLDER`,",
        '`vaerl.checkpoint.load_checkpoint("FOLDER")`.',
        "",
    ]
    if facts.state != "finished":
        lines += [f"The run had not finished: its state was {code(facts.state)}.", ""]
    lines += _scores(facts.evaluation)
    lines += [
        "## How it was made",
        "",
        "```bash",
        one_line(facts.command, 4000),
        "```",
        "",
        *(f"- {code(name)} {code(version)}" for name, version in facts.versions.items()),
        "",
        "## Checked",
        "",
        f"At {check.observations:,} observations the models and the policy in torch differ by at "
        f"most {check.drawn:.1e} for drawn and {check.deterministic:.1e} for deterministic "
        "actions, in half widths of the action's box. "
        f"Left out, because there the last digit decides between two actions: {check.jumps}.",
        "",
        "## Files",
        "",
        "| file | holds |",
        "|---|---|",
        *(f"| `{name}` | {what} |" for name, what in facts.files),
    ]
    return lines


def _scores(evaluation: Mapping[str, Any] | None) -> list[str]:
    if not evaluation:
        return []
    kinds = [kind for kind in ("stochastic", "deterministic") if kind in evaluation]
    keys = [key for key, value in evaluation[kinds[0]].items() if isinstance(value, float)]
    rows = [
        f"| {code(key)} | "
        + " | ".join(f"{evaluation[kind].get(key, float('nan')):.4g}" for kind in kinds)
        + " |"
        for key in keys
    ]
    head = f"| | {' | '.join(kinds)} |"
    return ["## Evaluation", "", head, "|---" * (len(kinds) + 1) + "|", *rows, ""]
