"""Pictures of runs, and the one-file HTML report that holds them. Names load when first used.

`report(runs, out)` writes the file; the figure functions are used on their own by trackers.
"""

from typing import TYPE_CHECKING

from vaerl.lazy import attach

if TYPE_CHECKING:
    from vaerl.report.build import report
    from vaerl.report.curve_figures import curve_figure
    from vaerl.report.density_figures import density_figure
    from vaerl.report.figures import save_png
    from vaerl.report.map_figures import goal_share_figure, rollout_figure

_HOMES = {
    "curve_figure": "curve_figures",
    "density_figure": "density_figures",
    "goal_share_figure": "map_figures",
    "report": "build",
    "rollout_figure": "map_figures",
    "save_png": "figures",
}
__all__ = [
    "curve_figure",
    "density_figure",
    "goal_share_figure",
    "report",
    "rollout_figure",
    "save_png",
]
__getattr__ = attach(__name__, _HOMES)
