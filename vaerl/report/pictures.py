"""Pictures made during training: the policy's density, roll-outs over the map, the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from vaerl.disk import files
from vaerl.envs.making import declared
from vaerl.report.density_figures import density_figure
from vaerl.report.figures import save_png
from vaerl.report.map_figures import Rollouts, rollout_figure
from vaerl.report.policies import RunPolicy, States, chosen_states
from vaerl.report.records import RunRecord
from vaerl.report.world import look_at_world, world_figures, world_numbers
from vaerl.runs.directory import RunDirectory
from vaerl.runs.evaluate import EvalResult, own_randomness
from vaerl.runs.monitor import watched

SEED = 3  # of the states and draws of a picture


class Painter:
    """Draws a run while it trains; the states of its density pictures stay the same."""

    def __init__(self, run: RunDirectory, agent: BaseAlgorithm) -> None:
        self.record = RunRecord(run, run.config, [], {})
        self.agent = agent
        self._states: States | None = None

    def policy(self, step: int) -> dict[str, Any]:
        """Draw p(a | s) at chosen states and the learned model, where the agent has them."""
        return {**self._density(step), **self._world(step)}

    def _density(self, step: int) -> dict[str, Path]:
        policy = RunPolicy(self.record, self.agent)
        if not policy.has_density:
            return {}
        with own_randomness(self.agent, SEED):
            if self._states is None:
                self._states = chosen_states(policy)
            value = policy.value(self._states.observations)
            title = [f"{self.record.density}, step {step:,}"]
            names = [self.record.density]
            figure = density_figure(
                value, *policy.box, title, states=self._states.names, names=names
            )
        return {"policy/density": self._save(figure, "density", step)}

    def _world(self, step: int) -> dict[str, Any]:
        look = look_at_world(RunPolicy(self.record, self.agent))
        if look is None:
            return {}
        figures = world_figures(look, f"{look.name}, step {step:,}")
        drawn = {f"model/{n}": self._save(f, f"model-{n}", step) for n, f in figures.items()}
        return {**drawn, **world_numbers(look)}

    def rollouts(self, result: EvalResult, step: int) -> dict[str, Path]:
        """Draw the roll-outs of an evaluation over the map, if the environment has one."""
        with watched(self.record.env, self.record.env_options) as env:
            if not result.traces or not hasattr(declared(env), "map_artist"):
                return {}
            goals = result.goals[: len(result.traces)].tolist()
            name = self.record.density
            rollouts = Rollouts(result.traces, goals, f"{name}, step {step:,}", name)
            figure = rollout_figure([rollouts], env)
        return {"eval/rollouts": self._save(figure, "rollouts", step)}

    def _save(self, figure: Any, kind: str, step: int) -> Path:
        folder = files.make_directory(self.record.directory.figures_path)
        return save_png(figure, folder / f"{kind}-{step:09d}.png")
