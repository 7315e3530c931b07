"""How fast vaerl is against what people use instead, as ratios within one run: `vaerl bench`."""

from vaerl.benchmarks.groups import GROUPS, group_names
from vaerl.benchmarks.timing import Case, Goal, Group, Limit, Result, measure

__all__ = ["GROUPS", "Case", "Goal", "Group", "Limit", "Result", "group_names", "measure"]
