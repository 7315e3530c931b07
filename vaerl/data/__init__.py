"""Demonstrations: recorded, read from files, runs or replay buffers, and written."""

from vaerl.data.buffers import from_replay_buffer
from vaerl.data.collect import collect, succeeded
from vaerl.data.demonstrations import Demonstrations, Episode
from vaerl.data.folder import FolderWriter, read_folder, write_folder
from vaerl.data.handwriting import read_handwriting
from vaerl.data.load import load_demonstrations
from vaerl.data.minari import read_minari, write_minari

__all__ = [
    "Demonstrations",
    "Episode",
    "FolderWriter",
    "collect",
    "from_replay_buffer",
    "load_demonstrations",
    "read_folder",
    "read_handwriting",
    "read_minari",
    "succeeded",
    "write_folder",
    "write_minari",
]
