"""Files and JSON: written whole or not at all, read with limits, with errors of one line."""

from vaerl.disk.errors import VaerlLoadError, WriteError

__all__ = ["VaerlLoadError", "WriteError"]
