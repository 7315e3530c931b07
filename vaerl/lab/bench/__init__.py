"""How fast vaerl is against what people use instead, as ratios within one run: `vaerl bench`."""

from vaerl.lab.bench.groups import GROUPS, group_names
from vaerl.lab.bench.timing import Case, Goal, Group, Limit, Result, measure

__all__ = ["GROUPS", "Case", "Goal", "Group", "Limit", "Result", "group_names", "measure"]
