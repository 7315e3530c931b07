"""The returns that a model gives to plans, all particles of all plans at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaerl.densities.options import check_positive, check_share
from vaerl.planning.model import Model, as_step, begin, per_row

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(states, actions, next_states) of B rows → ``(B,)``."""

NO_REWARD = (
    "reward: got None, expected a function of (states, actions, next_states): "
    "the model gives no rewards itself"
)


@torch.no_grad()
def plan_returns(
    model: Model,
    states: Tensor,
    plans: Tensor,
    *,
    reward: Function | None = None,
    termination: Function | None = None,
    particles: int = 1,
    discount: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Σ_t γ^t r_t of every particle of every plan, ``(B, N, P)``.

    Rewards stop when an episode ends; what a model says later does not count.

    Args:
        model: see `vaerl.planning.Model`.
        states: B states ``(B, S)`` to plan from.
        plans: N sequences for each, ``(B, N, H, A)``, or ``(B, N, H)`` whole numbers.
        reward, termination: known functions; they take precedence over the model's.
        particles: P, roll-outs of every plan.
        discount: γ.
        generator: of everything random in the model.

    Raises:
        ValueError: plans of another shape; a reward or termination that is no function; no reward
            function for a model without rewards; rewards or ends that are not one number a row;
            ends that are neither true nor false.
        TypeError: rewards or ends that are no tensor.

    >>> class Walk:
    ...     def step(self, states, actions, generator=None):
    ...         return states + actions
    >>> plans = torch.tensor([[[[1.0], [1.0]], [[0.0], [0.0]]]])
    >>> distance = lambda s, a, after: -(after - 2.0).abs().squeeze(-1)
    >>> plan_returns(Walk(), torch.zeros(1, 1), plans, reward=distance)[0, :, 0]
    tensor([-1., -4.])
    """
    for argument, function in (("reward", reward), ("termination", termination)):
        if function is not None and not callable(function):
            raise ValueError(f"{argument}: got {function!r}, expected a function or None")
    check_positive("particles", particles)
    check_share("discount", discount)
    if not isinstance(plans, Tensor) or plans.ndim not in (3, 4) or len(plans) != len(states):
        shown = f"shape {tuple(plans.shape)}" if isinstance(plans, Tensor) else type(plans).__name__
        raise ValueError(
            f"plans: got {shown} for {len(states)} states, "
            "expected (B, N, H, A), or (B, N, H) whole numbers"
        )
    count, horizon = plans.shape[1:3]
    rows = len(states) * count * particles
    at = states.repeat_interleave(count * particles, 0)
    # Time first, so that each step reads one block.
    actions = plans.movedim(2, 0).flatten(1, 2).repeat_interleave(particles, 1)
    total = at.new_zeros(rows)
    over: Tensor | None = None
    moved = begin(model, rows, generator)
    for t in range(horizon):
        action = actions[t]
        after, gained, done = as_step(moved.step(at, action, generator))
        if after.shape != at.shape:
            raise ValueError(
                f"model.step: got next states of shape {tuple(after.shape)}, expected that of the "
                f"states, {tuple(at.shape)}"
            )
        if reward is not None:
            gained = reward(at, action, after)
        if gained is None:
            raise ValueError(NO_REWARD)
        gained = per_row("reward", gained, rows).to(total)
        if termination is not None:
            done = termination(at, action, after)
        if over is not None:
            gained = gained.masked_fill(over, 0.0)
        total = torch.add(total, gained, alpha=discount**t)
        if done is not None:
            ended = _as_ends(per_row("termination", done, rows), over)
            over = ended if over is None else over | ended
        at = after
    return total.view(len(states), count, particles)


def _as_ends(done: Tensor, over: Tensor | None) -> Tensor:
    """Ends as booleans; numbers have to be 0 or 1 where no episode is over."""
    if done.dtype == torch.bool:
        return done
    ended = done == 1
    wrong = ~ended & (done != 0)
    if over is not None:
        wrong &= ~over
    if bool(wrong.any()):
        raise ValueError(
            f"termination: got {done[wrong][0].item():g}, expected True or False, or 1 or 0, for "
            "each row"
        )
    return ended
