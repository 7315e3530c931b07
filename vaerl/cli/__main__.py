"""The command `vaerl` as ``python -m vaerl.cli``."""

from vaerl.cli.main import main

main()
