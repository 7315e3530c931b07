"""The speed of vaerl against its alternatives, as ratios within one run: `vaerl bench`."""

from vaerl.lab.bench.groups import GROUPS
from vaerl.lab.bench.timing import Case, Goal, Group, Result, measure

__all__ = ["GROUPS", "Case", "Goal", "Group", "Result", "measure"]
