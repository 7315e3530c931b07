"""Demonstrations from wherever they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vaerl.data.buffers import from_replay_buffer
from vaerl.data.demonstrations import Demonstrations
from vaerl.data.folder import is_folder, read_folder
from vaerl.data.handwriting import is_handwriting, read_handwriting
from vaerl.data.lerobot import is_lerobot, read_lerobot
from vaerl.data.minari import is_minari, read_minari
from vaerl.data.run import is_run, read_run

LEGAL = (
    "a folder of npz files, a run, a Minari data set (minari:NAME), a folder in LeRobot's layout "
    "or Omniglot's strokes"
)


def load_demonstrations(source: Any, env: str = "") -> Demonstrations:
    """Demonstrations from a source of any known form.

    Args:
        source: `Demonstrations`; a replay buffer of Stable-Baselines3; a folder of npz files; the
            folder of a run; a Minari data set ("minari:NAME" or its folder); a folder in LeRobot's
            layout; Omniglot's strokes as `read_handwriting` takes them.
        env: Gymnasium id, where the source does not name one.

    Raises:
        ValueError: nothing of these forms is there. Files are read without running code.

    >>> load_demonstrations("no/such/folder")
    Traceback (most recent call last):
    ValueError: data: 'no/such/folder' does not exist; expected a folder of npz files, a run, \
a Minari data set (minari:NAME), a folder in LeRobot's layout or Omniglot's strokes
    """
    if isinstance(source, Demonstrations):
        return source
    if not isinstance(source, str | os.PathLike):
        return from_replay_buffer(source, env=env)
    path = Path(source)
    if is_minari(str(source)):
        return read_minari(str(source))
    if is_lerobot(path):
        return read_lerobot(path, env)
    if is_run(path):
        return read_run(path)
    if is_handwriting(path):
        return read_handwriting(path)
    if is_folder(path):
        return read_folder(path, env)
    if path.is_file():
        raise ValueError(
            f"data: {str(source)!r} is a file, expected {LEGAL}; loading a pickled replay buffer "
            "would run code: pass the buffer itself, or record with vaerl collect"
        )
    there = "holds no demonstrations" if path.exists() else "does not exist"
    raise ValueError(f"data: {str(source)!r} {there}; expected {LEGAL}")
