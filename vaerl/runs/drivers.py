"""Recording demonstrations: by a run, the weights in an SB3 zip file, a function, or an expert."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch

from vaerl.agents import AGENTS
from vaerl.agents.description import (
    SB3_AGENTS,
    AgentDescription,
    constructor_arguments,
    make_agent,
)
from vaerl.data import (
    Demonstrations,
    FolderWriter,
    collect,
    load_demonstrations,
    read_folder,
    succeeded,
    write_minari,
)
from vaerl.data.drivers import follow
from vaerl.data.minari import check_new_name
from vaerl.disk.errors import FOREIGN, RunFailed, one_line, words_of
from vaerl.disk.reading import read_file
from vaerl.disk.versions import versions
from vaerl.envs.making import import_environments
from vaerl.names import check_name
from vaerl.runs.collect import MINARI, CollectConfig
from vaerl.runs.evaluate import EPISODE_LIMIT, cut_note
from vaerl.runs.monitor import watched
from vaerl.runs.train import load_run
from vaerl.runs.vec import make_vec
from vaerl.threads import limit_threads

WEIGHTS = "policy.pth"
ZIP_BYTES = 2**31


@limit_threads()
def record(
    config: CollectConfig,
    *,
    command: str = "",
    on_episode: Callable[[int], None] | None = None,
) -> Demonstrations:
    """Record what `config` asks for, write it, and return it.

    Args:
        config: what to record.
        command: how it was asked for; kept with the data.
        on_episode: called with the number of episodes so far.

    Raises:
        ValueError: a driver that cannot be loaded, or faulty episodes; one line.
    """
    name = config.to.removeprefix(MINARI)
    if name:
        check_new_name(name)
    if config.data:
        found = _chosen(config, command)
    else:
        driver, more = _driver(config)
        with watched(config.env, config.env_options, EPISODE_LIMIT) as env:
            found = collect(
                env,
                driver,
                config.episodes or 0,
                out=Path(config.out).absolute() if config.out else None,
                seed=config.seed,
                env_options=config.env_options,
                noise=config.noise[0] if len(config.noise) == 1 else config.noise or None,
                keep=succeeded if config.successes_only else None,
                provenance={"command": command, **config.origin, **more},
                on_episode=on_episode,
            )
        if env.limit is not None:
            cut = sum(len(e.actions) == env.limit and not e.terminated for e in found)
            print(cut_note(config.env, cut, len(found)), end="\n" if cut else "", file=sys.stderr)
    if name:
        write_minari(found, name)
    return found


def _driver(config: CollectConfig) -> tuple[Any, dict[str, Any]]:
    """Who drives, as `collect` takes it, and what else there is to say about it."""
    if config.run:
        agent, _, step = load_run(Path(config.run))
        return partial(follow, agent, deterministic=config.deterministic), {"step": step}
    if config.sb3:
        agent = load_zip(
            config.sb3,
            config.env,
            agent=config.agent,
            policy=config.policy,
            agent_options=config.agent_options,
            env_options=config.env_options,
        )
        digest = hashlib.sha256(read_file(config.sb3, ZIP_BYTES, follow=True)).hexdigest()
        return partial(follow, agent, deterministic=config.deterministic), {"sha256": digest}
    if config.function:
        return import_function(config.function), {}
    return config.driver, {}


def _chosen(config: CollectConfig, command: str) -> Demonstrations:
    """Demonstrations that are there already: those asked for, written where asked."""
    source = load_demonstrations(config.data, config.env)
    numbers = [i for i, e in enumerate(source) if not config.successes_only or succeeded(e)]
    if config.episodes is not None:
        if config.episodes > len(numbers):
            raise ValueError(
                f"episodes: got {config.episodes}, expected at most the {len(numbers)} of "
                f"{config.data!r}"
            )
        rng = np.random.default_rng(config.seed)
        numbers = sorted(rng.choice(numbers, config.episodes, replace=False).tolist())
    found = source.pick(
        numbers,
        provenance={
            "command": command,
            **config.origin,
            "seed": config.seed,
            "source": source.provenance,
            "versions": versions(),
        },
    )
    if not config.out:
        return found
    spaces = found.observation_space, found.action_space
    writer = FolderWriter(config.out, *spaces, env=found.env, provenance=found.provenance)
    for number in sorted({*range(len(found))} - {*writer.numbers}):
        writer.add(found[number], number)
    return read_folder(writer.path)


def import_function(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; the current folder is searched too.

    Whatever it raises when it is called becomes one line that names it, a `RunFailed`.

    Raises ValueError, in one line, if there is no such function.

    >>> import_function("math:sqrt")(4.0)
    2.0
    """
    module, colon, rest = name.partition(":")
    if not (module and colon and rest):
        raise ValueError(f"function: got {name!r}, expected MODULE:FUNCTION")
    import_environments(module)
    try:
        found = resolve_name(name)
    except (AttributeError, ImportError, ValueError) as error:
        raise ValueError(f"function: got {name!r}, but {one_line(error)}") from error
    if not callable(found):
        raise ValueError(f"function: {name!r} is {found!r:.80}, expected a function")
    return _named(found, name)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same function, and those that it returns, with errors that name it."""

    @wraps(function)
    def call(*given: Any, **options: Any) -> Any:
        try:
            found = function(*given, **options)
        except FOREIGN as error:
            raise RunFailed(f"function {name!r} raised {words_of(error)}") from error
        return _named(found, name) if callable(found) else found

    return call


def load_zip(
    path: str | os.PathLike[str],
    env: str,
    *,
    agent: str = "sb3-sac",
    policy: str = "MlpPolicy",
    agent_options: Mapping[str, Any] | None = None,
    env_options: Mapping[str, Any] | None = None,
) -> Any:
    """An agent that acts with the weights in a zip file of Stable-Baselines3's `save`.

    Only ``policy.pth`` is read, and only tensors from it. All else in such a file is pickled, so
    the caller describes the network.

    Args:
        path: the zip file.
        env: Gymnasium id of the environment that the policy was trained on.
        agent: sb3-sac, sb3-ppo, sb3-a2c, sb3-td3, sb3-ddpg, or an agent of vaerl.
        policy: "MlpPolicy", "MultiInputPolicy", or a density's name.
        agent_options: further arguments of its constructor, such as policy_kwargs.
        env_options: arguments of `gymnasium.make`.

    Raises:
        ValueError: no such file, no weights in it, or weights of another network.
    """
    weights = _read_weights(Path(path))
    options = dict(agent_options or {})
    check_name("agent", agent, [*SB3_AGENTS, *AGENTS.names()])
    cls = SB3_AGENTS.get(agent) or AGENTS.load(agent)
    if "buffer_size" in constructor_arguments(cls):
        options.setdefault("buffer_size", 1)  # nothing is trained
    description = AgentDescription(env, agent, policy, agent_options=options)
    made = make_agent(description, make_vec(env, options=env_options), device="cpu")
    own = made.policy.state_dict()
    for name in sorted({*own, *weights}):
        there, here = (getattr(state.get(name), "shape", None) for state in (weights, own))
        if there != here:
            got, expected = ("none" if s is None else list(s) for s in (there, here))
            raise ValueError(
                f"sb3: {str(path)!r}, {name}: got {got}, the network described has {expected}; "
                "describe it with --agent, --policy and --agent-option policy_kwargs=…"
            )
    made.policy.load_state_dict(weights)
    return made


def _read_weights(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(read_file(path, ZIP_BYTES, follow=True))) as archive:
            if archive.getinfo(WEIGHTS).file_size > ZIP_BYTES:
                raise ValueError(f"{WEIGHTS}: expected at most {ZIP_BYTES:,} bytes")
            data = archive.read(WEIGHTS)
    except KeyError as error:
        raise ValueError(
            f"sb3: {str(path)!r} holds no {WEIGHTS}, expected a file of SB3's save"
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"sb3: {str(path)!r} is not a readable zip file ({error})") from error
    try:
        weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no class of errors for foreign contents
        reason = one_line(error, 100)
        raise ValueError(
            f"sb3: {WEIGHTS} in {str(path)!r} is not a file of tensors alone ({reason})"
        ) from error
    if not isinstance(weights, dict):
        raise ValueError(f"sb3: {WEIGHTS} in {str(path)!r} holds no weights by name")
    return weights
