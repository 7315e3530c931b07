"""How far a model can be trusted: roll-outs of k steps against what really happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vaerl.densities.options import check_positive
from vaerl.dynamics.data import Transitions, check_transitions
from vaerl.dynamics.diagnostics import calibration_error, pit

if TYPE_CHECKING:
    from vaerl.dynamics.model import DynamicsModel


class HorizonErrors(NamedTuple):
    """Errors of roll-outs by their number of steps, each ``(K,)``."""

    error: Tensor
    """Root mean square, over starts and coordinates, of (real state − mean of the particles) over
    the state's standard deviation in the data: 1 is as good as their mean."""
    spread: Tensor
    """The same of the particles around their mean: as large as `error` for a model that knows."""
    calibration: Tensor
    """Distance of the PIT values from uniform (`calibration_error`), at most 0.5."""
    reward: Tensor
    """Root mean square of (real − mean predicted) return so far, in deviations of the real ones."""


@torch.no_grad()
def horizon_errors(
    model: DynamicsModel,
    data: Transitions,
    steps: int = 20,
    starts: int = 64,
    particles: int = 32,
    generator: torch.Generator | None = None,
) -> HorizonErrors:
    """Roll the model out under the actions of held-out episodes, from states on their way.

    Args:
        model: with rewards; ends of episodes are ignored.
        data: held-out transitions with `episodes`, of which some are `steps` long.
        steps: K.
        starts: states from which particles start, spread evenly over those with K steps left.
        particles: of each start; they begin in all members in turn, and keep or change them as the
            model's `propagation` says.

    Raises:
        ValueError: no episode of K steps, no numbers of episodes, or no rewards.
    """
    check_positive("steps", steps)
    check_positive("starts", starts)
    check_positive("particles", particles, at_least=2)
    check_transitions("data", data)
    if data.episodes is None or data.rewards is None:
        raise ValueError("data: got no episodes or no rewards, expected both")
    if model.reward is None:
        raise ValueError("model: got one without rewards, expected a learned or known reward")
    first = torch.arange(max(0, len(data) - steps + 1))
    first = first[data.episodes[first] == data.episodes[first + steps - 1]]
    if not len(first):
        raise ValueError(f"data: got no episode of {steps} steps, expected at least one")
    chosen = first[torch.linspace(0, len(first) - 1, min(starts, len(first))).long()]
    scale = data.states.std(0, correction=0).clamp_min(1e-6)
    rows = len(chosen) * particles
    roll = model.begin(rows, generator)
    at = data.states[chosen].repeat_interleave(particles, 0)
    earned, real = at.new_zeros(rows), at.new_zeros(len(chosen))
    found = []
    for k in range(steps):
        actions = data.actions[chosen + k]
        step = roll.step(at, actions.repeat_interleave(particles, 0), generator)
        assert step.rewards is not None, "the model has rewards"
        at = step.next_states
        earned, real = earned + step.rewards, real + data.rewards[chosen + k]
        draws = at.unflatten(0, (len(chosen), particles)).transpose(0, 1)
        after = data.next_states[chosen + k]
        off = (earned.unflatten(0, (len(chosen), particles)).mean(1) - real).square().mean().sqrt()
        found.append(
            torch.stack(
                (
                    ((draws.mean(0) - after) / scale).square().mean().sqrt(),
                    (draws.var(0) / scale.square()).mean().sqrt(),
                    at.new_tensor(calibration_error(pit(draws, after, generator))),
                    off / real.std(correction=0).clamp_min(1e-6),
                )
            )
        )
    return HorizonErrors(*torch.stack(found, dim=1))
