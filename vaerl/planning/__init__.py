"""Planning with a model: random shooting, CEM, iCEM and MPPI over batched particles."""

from vaerl.planning.actions import BoxActions, DiscreteActions
from vaerl.planning.evaluation import plan_returns
from vaerl.planning.model import Model, Step
from vaerl.planning.objectives import OBJECTIVES, cvar
from vaerl.planning.planner import Plan, Planner
from vaerl.planning.planners import CEM, ICEM, MPPI, RandomShooting
from vaerl.planning.registry import PLANNERS, make_planner, planner_names, planner_options
from vaerl.planning.simulator import SimulatorModel

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "OBJECTIVES",
    "PLANNERS",
    "BoxActions",
    "DiscreteActions",
    "Model",
    "Plan",
    "Planner",
    "RandomShooting",
    "SimulatorModel",
    "Step",
    "cvar",
    "make_planner",
    "plan_returns",
    "planner_names",
    "planner_options",
]
