"""Gymnasium environments with known answers; importing this package registers them.

One file per environment. Ids, with what the policy has to find:

    >>> import vaerl.envs
    >>> for env_id, line in vaerl.envs.ENVIRONMENTS.items():
    ...     print(f"{env_id:26} {line}")
    vaerl/MultiGoal-v0         SQL's point among four goals, quadratic costs
    vaerl/PointMass-v0         DrAC's point mass among four distant goals
    vaerl/PointMazeSimple-v0   DrAC's maze with 4 goals, 150 steps
    vaerl/PointMazeMedium-v0   DrAC's maze with 4 goals, 300 steps
    vaerl/PointMazeHard-v0     DrAC's maze with 8 goals, 600 steps
    vaerl/Bandit40-v0          one state, 40 modes, exact target density
    vaerl/InverseKinematics-v0 postures of an arm that reach a point, exact target density
    vaerl/Avoiding-v0          planar D3IL Avoiding, 24 ways through three rows of posts
    vaerl/CubePads-v0          OGBench's arm puts a cube on one of four pads (extra: ogbench)
    vaerl/Handwriting-v0       a pen writes characters as people do, in several ways
    vaerl/ColouredGoals-v0     the goal that an instruction names, colour and side
    vaerl/UnshapedPendulum-v0  Pendulum, −1 a step unless upright
    vaerl/UnshapedCar-v0       the mountain car, −1 a step until the goal
    vaerl/WetChicken-v0        canoe before a waterfall, law with atoms
    vaerl/MoerlandToy-v0       one number to predict, one to three branches
    vaerl/GhostGrid-v0         maze with two random ghosts, discrete law
    vaerl/RawAcrobot-v0        Acrobot in raw angles, deterministic
    vaerl/Fork-v0              one safe and one bimodal action
    vaerl/BimodalWind-v0       three gates and one gust, up or down
    vaerl/RandomPush-v0        Pendulum with rare hard pushes
    vaerl/PushCartPole-v0      CartPole with rare hard pushes
    vaerl/HiddenFriction-v0    Pendulum whose friction is hidden, drawn once per episode
    vaerl/CurrencyExchange-v0  sell money at a rate that wanders, for the mean or the worst
    vaerl/HIVTreatment-v0      doses of two drugs that turn out a little different

Those from Wet-Chicken on are for dynamics models and planning; see `known_law`. Importing this
package imports gymnasium only; an environment's module is loaded when it is first made.
"""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import Any, NamedTuple

import gymnasium

from vaerl.envs.control_suite import register_control_suite


class _Entry(NamedTuple):
    line: str
    entry_point: str
    max_episode_steps: int | None
    kwargs: dict[str, Any]


_ENTRIES = {
    "vaerl/MultiGoal-v0": _Entry(
        "SQL's point among four goals, quadratic costs", "multigoal:MultiGoalEnv", 100, {}
    ),
    "vaerl/PointMass-v0": _Entry(
        "DrAC's point mass among four distant goals", "point_mass:PointMassEnv", 50, {}
    ),
    "vaerl/PointMazeSimple-v0": _Entry(
        "DrAC's maze with 4 goals, 150 steps", "point_maze:PointMazeEnv", 150, {"maze": "simple"}
    ),
    "vaerl/PointMazeMedium-v0": _Entry(
        "DrAC's maze with 4 goals, 300 steps", "point_maze:PointMazeEnv", 300, {"maze": "medium"}
    ),
    "vaerl/PointMazeHard-v0": _Entry(
        "DrAC's maze with 8 goals, 600 steps", "point_maze:PointMazeEnv", 600, {"maze": "hard"}
    ),
    "vaerl/Bandit40-v0": _Entry(
        "one state, 40 modes, exact target density", "bandit:Bandit40Env", None, {}
    ),
    "vaerl/InverseKinematics-v0": _Entry(
        "postures of an arm that reach a point, exact target density",
        "inverse_kinematics:InverseKinematicsEnv",
        None,
        {},
    ),
    "vaerl/Avoiding-v0": _Entry(
        "planar D3IL Avoiding, 24 ways through three rows of posts",
        "avoiding:AvoidingEnv",
        250,
        {},
    ),
    "vaerl/CubePads-v0": _Entry(
        "OGBench's arm puts a cube on one of four pads (extra: ogbench)",
        "cube_pads:CubePadsEnv",
        120,
        {},
    ),
    "vaerl/Handwriting-v0": _Entry(
        "a pen writes characters as people do, in several ways",
        "handwriting:HandwritingEnv",
        192,
        {},
    ),
    "vaerl/ColouredGoals-v0": _Entry(
        "the goal that an instruction names, colour and side",
        "coloured_goals:ColouredGoalsEnv",
        15,
        {},
    ),
    "vaerl/UnshapedPendulum-v0": _Entry(
        "Pendulum, −1 a step unless upright", "unshaped:UnshapedEnv", 200, {"task": "pendulum"}
    ),
    "vaerl/UnshapedCar-v0": _Entry(
        "the mountain car, −1 a step until the goal",
        "unshaped:UnshapedEnv",
        500,
        {"task": "mountain-car"},
    ),
    "vaerl/WetChicken-v0": _Entry(
        "canoe before a waterfall, law with atoms", "wet_chicken:WetChickenEnv", 200, {}
    ),
    "vaerl/MoerlandToy-v0": _Entry(
        "one number to predict, one to three branches", "moerland_toy:MoerlandToyEnv", None, {}
    ),
    "vaerl/GhostGrid-v0": _Entry(
        "maze with two random ghosts, discrete law", "ghost_grid:GhostGridEnv", 400, {}
    ),
    "vaerl/RawAcrobot-v0": _Entry(
        "Acrobot in raw angles, deterministic", "acrobot:RawAcrobotEnv", 200, {}
    ),
    "vaerl/Fork-v0": _Entry("one safe and one bimodal action", "fork:ForkEnv", None, {}),
    "vaerl/BimodalWind-v0": _Entry(
        "three gates and one gust, up or down", "bimodal_wind:BimodalWindEnv", None, {}
    ),
    "vaerl/RandomPush-v0": _Entry(
        "Pendulum with rare hard pushes", "noisy_pendulum:RandomPushEnv", 200, {}
    ),
    "vaerl/PushCartPole-v0": _Entry(
        "CartPole with rare hard pushes", "push_cartpole:PushCartPoleEnv", 500, {}
    ),
    "vaerl/HiddenFriction-v0": _Entry(
        "Pendulum whose friction is hidden, drawn once per episode",
        "noisy_pendulum:HiddenFrictionEnv",
        200,
        {},
    ),
    "vaerl/CurrencyExchange-v0": _Entry(
        "sell money at a rate that wanders, for the mean or the worst",
        "currency_exchange:CurrencyExchangeEnv",
        None,
        {},
    ),
    "vaerl/HIVTreatment-v0": _Entry(
        "doses of two drugs that turn out a little different",
        "hiv_treatment:HIVTreatmentEnv",
        50,
        {},
    ),
}

ENVIRONMENTS: dict[str, str] = {env_id: entry.line for env_id, entry in _ENTRIES.items()}


def register_envs() -> None:
    """Register every id of `ENVIRONMENTS` with Gymnasium, and those of other packages.

    The tasks of DeepMind's Control Suite are dmc/DOMAIN-TASK-v0 (`vaerl.envs.control_suite`).

    Another package registers "toy/Walk-v0" by an entry point of the group `vaerl.envs`, whose value
    is "module:Class". Ids that Gymnasium already knows are left alone.
    """
    for env_id, entry in _ENTRIES.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point=f"vaerl.envs.{entry.entry_point}",
                max_episode_steps=entry.max_episode_steps,
                kwargs=dict(entry.kwargs),
            )
    register_control_suite()
    for point in metadata.entry_points(group="vaerl.envs"):
        if point.name not in gymnasium.registry:
            try:
                gymnasium.register(point.name, entry_point=point.value)
            except gymnasium.error.Error as error:
                warnings.warn(f"environment {point.value!r} is ignored: {error}", stacklevel=2)


register_envs()

__all__ = ["ENVIRONMENTS", "register_envs"]
