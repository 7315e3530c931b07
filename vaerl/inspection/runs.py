"""A look at the policy of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vaerl.data import load_demonstrations
from vaerl.inspection.inspect import Inspection, inspect_policy
from vaerl.runs.train import load_run


def inspect_run(run: Path, data: str | None = None, **options: Any) -> Inspection:
    """Look at the policy of a run's last checkpoint; loading runs no code of the files.

    Args:
        run: its folder.
        data: demonstrations; those that the run learned from if None, where they can be read.
        options: of `inspect_policy`.
    """
    agent, config, _ = load_run(run)
    known: Any = data
    if data is None and config.data:
        try:
            known = load_demonstrations(config.data, config.env)
        except ValueError as error:
            print(f"draws are compared with no data: {error}", file=sys.stderr)
    return inspect_policy(
        agent,
        env=config.env,
        env_options=config.env_options,
        data=known,
        **options,
    )
