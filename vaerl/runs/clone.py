"""A run that starts from a clone: the run of behaviour cloning, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vaerl.agents import AGENTS, agent_class
from vaerl.agents.description import encode
from vaerl.checkpoint.load import find_checkpoint, load_checkpoint
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory


def resolve(config: TrainConfig) -> tuple[TrainConfig, Any]:
    """The resolved configuration, and the clone that the agent starts from or None.

    The clone's density and policy are written into the configuration, so that a checkpoint can be
    loaded without the clone.

    Raises:
        ValueError: no run of behaviour cloning, an agent that starts from none, another density.
    """
    given, config = dict(config.agent_options), config.resolved()
    if not config.from_:
        return config, None
    if not agent_class(config.agent).improves_clones:
        able = [name for name in AGENTS.names() if agent_class(name).improves_clones]
        raise ValueError(f"--from: got agent {config.agent!r}, expected one of {', '.join(able)}")
    run = RunDirectory.open(config.from_)
    clone = load_checkpoint(find_checkpoint(run.checkpoints_path))
    try:
        options = encode(agent_class(config.agent).clone_options(clone), "clone")
    except ValueError as error:  # the agent names its argument
        raise ValueError(f"--from: {str(error).removeprefix('clone: ')}") from None
    density = options.pop("policy")
    if config.density not in (density, TrainConfig.density):
        raise ValueError(f"--density: got {config.density!r}, the clone has {density!r}")
    policy = {**options.pop("policy_kwargs"), **given.pop("policy_kwargs", {})}
    inner = {**policy.pop("density_kwargs", {}), **config.density_options}
    config = replace(
        config,
        density=policy.pop("density", density),
        density_options=inner,
        agent_options={**config.agent_options, **options, **given, "policy_kwargs": policy},
    )
    return config, clone
