"""The command `vaerl`."""

from vaerl.cli.main import app, main

__all__ = ["app", "main"]
