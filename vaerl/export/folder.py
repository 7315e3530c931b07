"""A run as a folder to take along: the policy in ONNX with its loader, weights, scores, a card.

    README.md            the card: scores, the command that made the run, the check
    policy.py            loads and asks the two models; needs numpy and onnxruntime
    policy.onnx          observation and noise → action
    deterministic.onnx   observation → action
    model.safetensors    the weights of the policy
    config.json evaluation.json status.json checkpoints/   a run, for every command of vaerl
    replay.mp4           a video, if the run has one

Paths of the machine stay behind, and so do replay buffers and logs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaerl.agents import agent_class
from vaerl.checkpoint.save import save_checkpoint
from vaerl.checkpoint.tensors import to_bytes
from vaerl.disk import files, jsonio
from vaerl.disk.reading import read_file
from vaerl.export.card import Facts, card
from vaerl.export.check import Check
from vaerl.export.models import BEST, DRAWN, LOADER, check_policy, export_policy
from vaerl.runs.config import NAMED_SOURCE, TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.runs.train import load_run, read_config

CARD, WEIGHTS, VIDEO = "README.md", "model.safetensors", "replay"
VIDEO_LIMIT = 2**28  # bytes
HOLDS = {
    DRAWN: "the policy: observation and noise to action",
    BEST: "the deterministic policy: observation to action",
    LOADER: "loads and asks the models, with numpy and onnxruntime",
    WEIGHTS: "the weights of the policy",
    "config.json": "the configuration of the run",
    "evaluation.json": "the scores, episode by episode",
    "status.json": "how the run ended",
    "checkpoints/": "the agent, as vaerl loads it",
}


def export_run(
    path: Path, folder: Path, command: Callable[[TrainConfig], str] = lambda config: ""
) -> Check:
    """Write the last checkpoint of a run to `folder`; an earlier export there is replaced.

    Args:
        path: of the run.
        folder: where to.
        command: the command line that makes a run of a configuration.

    Raises:
        ValueError: no run, a folder that holds something else, an agent without a policy, or
            answers that differ from the policy's.
    """
    run = RunDirectory.open(path)
    config = read_config(run)
    check_policy(agent_class(config.agent))
    if folder.resolve() == path.resolve():
        raise ValueError(f"--out: got the run {str(path)!r} itself, expected another folder")
    _check_free(folder)
    made = files.make_directory(folder.parent) / f".{folder.name}-{os.getpid()}"
    try:
        found = _fill(run, config, made, command)
        if folder.exists():
            files.remove_tree(folder)
        made.rename(folder)
    finally:
        if made.exists():
            files.remove_tree(made)
    return found


def _fill(
    run: RunDirectory, config: TrainConfig, folder: Path, command: Callable[[TrainConfig], str]
) -> Check:
    made = RunDirectory(folder)
    agent, config, step = load_run(run.path)
    found = export_policy(agent, folder)
    shown = portable(config)
    data = {**shown.to_dict(), "versions": run.config.get("versions", {})}
    files.write_text(made.config_path, jsonio.dumps(data, indent=2) + "\n")
    save_checkpoint(agent, made.checkpoints_path, described=True)
    files.write_bytes(folder / WEIGHTS, to_bytes(weights(agent.policy)))
    state = run.status()["state"]
    made.set_status(state, step)
    evaluation = run.evaluation()
    if evaluation is not None:
        files.write_text(made.evaluation_path, jsonio.dumps(evaluation, indent=1) + "\n")
    video = _video(run, folder)
    listed = [(name, what) for name, what in HOLDS.items() if (folder / name).exists()]
    facts = Facts(
        run.name,
        shown,
        command(shown),
        step,
        state,
        evaluation,
        data["versions"],
        found,
        video,
        listed,
    )
    files.write_text(folder / CARD, card(facts))
    return found


def portable(config: TrainConfig) -> TrainConfig:
    """The configuration without the paths of this machine: of each, its last name."""
    last = {
        name: Path(value).name
        for name, value in (("data", config.data), ("from_", config.from_))
        if value and not NAMED_SOURCE.match(value)
    }
    made = replace(config, out=Path(config.out).name)
    for name, value in last.items():  # the record itself would make them absolute
        object.__setattr__(made, name, value)
    return made


def weights(policy: Any) -> dict[str, Any]:
    """The tensors of a policy, each once: networks that share one have it under one name."""
    kept, seen = {}, set()
    for name, tensor in policy.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and place not in seen:
            seen.add(place)
            kept[name] = tensor.detach().cpu().contiguous()
    return kept


def contents(folder: Path) -> list[str]:
    """The files of an export, by their paths in it."""
    own = [CARD, *HOLDS, f"{VIDEO}.mp4", f"{VIDEO}.gif"]
    found = [path for name in own if (path := folder / name).is_file()]
    found += sorted((folder / "checkpoints").glob("*/*"))
    return [path.relative_to(folder).as_posix() for path in found]


def _check_free(folder: Path) -> None:
    files.check_folder("--out", folder)
    held = folder.is_dir() and any(folder.iterdir())
    if held and not (folder / DRAWN).is_file():
        raise ValueError(f"--out: {str(folder)!r} is not empty and is no export; choose another")


def _video(run: RunDirectory, folder: Path) -> str:
    """Copy the newest video of a run; its name, empty without one."""
    films = [p for kind in ("mp4", "gif") for p in sorted(run.videos_path.glob(f"*.{kind}"))[-1:]]
    if not films:
        return ""
    name = f"{VIDEO}{films[0].suffix}"
    files.write_bytes(folder / name, read_file(films[0], VIDEO_LIMIT, root=run.path))
    return name
