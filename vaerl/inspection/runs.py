"""A look at the policy of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vaerl.inspection.inspect import Inspection, inspect_policy
from vaerl.runs.train import load_run


def inspect_run(run: Path, data: str | None = None, **options: Any) -> Inspection:
    """Look at the policy of a run's last checkpoint; loading runs no code of the files.

    Args:
        run: its folder.
        data: demonstrations; those that the run learned from if None.
        options: of `inspect_policy`.
    """
    agent, config, _ = load_run(run)
    return inspect_policy(
        agent,
        env=config.env,
        env_options=config.env_options,
        data=data or config.data or None,
        **options,
    )
