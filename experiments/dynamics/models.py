"""The models that `dynamics` compares, and the fit of one cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete

from vaerl.dynamics import DynamicsModel, FitOptions, FitReport, Transitions, fit
from vaerl.envs.known_law import KnownLawEnv

HELD_OUT = 0.1  # share of the transitions that stop the fit


@dataclass(frozen=True)
class Model:
    """A density by name, its options and learning rate, and how it stands in an ensemble."""

    density: str
    learning_rate: float
    options: Mapping[str, Any] = field(default_factory=dict)
    members: int = 1
    propagation: str = "tsinf"
    latent: str = "step"
    weight_decay: float = 0.0


_WIDE = {"hidden": (128, 128)}
_CVAE = {"k": 4, "prior_components": 8, "blocks": 1, "context_hidden": (128, 128), "hidden": 64}

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "mean-only": Model(
            "gaussian",
            3e-3,
            {**_WIDE, "variance": "state-independent"},
            propagation="expectation",
        ),
        "gaussian": Model("gaussian", 3e-3, _WIDE),
        "gaussian-x5": Model("gaussian", 3e-3, _WIDE, members=5),
        "mixture": Model("mixture", 3e-3, {**_WIDE, "components": 8}),
        "flow": Model("flow", 3e-3, {"transforms": 3}),
        "cvae": Model("cvae", 3e-3, _CVAE),
        "cvae-x5": Model("cvae", 3e-3, _CVAE, members=5),
        "cvae-latents-8": Model("cvae", 3e-3, {**_CVAE, "latent_dims": (8,)}),
        "cvae-light": Model("cvae", 3e-3, {**_CVAE, "context_hidden": (64,), "hidden": 32}),
        "cvae-episode": Model("gaussian", 3e-3, _WIDE, latent="episode"),
    }
)
"""The mean model is the Gaussian of one spread for all states, planned with by its mean; the light
cvae is one whose plans take half of the time; eight latents, instead of three, stand where a model
has to decide a jump; the last one has a latent code an episode, and stands where episodes hide
something."""

SOMEWHERE = ("cvae-latents-8", "cvae-episode")
EVERYWHERE = tuple(name for name in MODELS if name not in SOMEWHERE)


@dataclass(frozen=True)
class Budget:
    """The budget of a fit on a task, the same for every model."""

    transitions: int
    steps: int
    batch_size: int = 256
    #: standard deviation of noise on observed next states, where the law has atoms; none where
    #: the density is over whole numbers
    noise: float = 0.0
    #: draws of that noise for each training transition
    copies: int = 1
    #: noise on the targets at the start of the fit (`vaerl.dynamics.FitOptions`)
    blur: float = 0.0


def make_world(
    env: KnownLawEnv,
    model: Model,
    *,
    features: Callable[[torch.Tensor], torch.Tensor] | None = None,
    reward: Any = None,
) -> DynamicsModel:
    """An untrained model of a task; what follows from the scored coordinates is known to it."""
    space = env.action_space
    discrete = isinstance(space, Discrete)
    whole = len(env.scored) == env.observation_space.shape[0]
    return DynamicsModel(
        env.observation_space.shape[0],
        int(space.n) if isinstance(space, Discrete) else space.shape[0],
        discrete_actions=discrete,
        density=model.density,
        density_kwargs=model.options,
        members=model.members,
        propagation=model.propagation,
        latent=model.latent,
        latent_dim=1,
        reward=reward,
        features=features,
        predicted=None if whole else env.scored,
        complete=None if whole else env.complete,
    )


def observe(env: KnownLawEnv, count: int, rng: np.random.Generator) -> Transitions:
    """Transitions from `env.random_pairs`."""
    states, actions = env.random_pairs(count, rng)
    return as_transitions(states, actions, env.step_batch(states, actions, rng).next_states)


def as_transitions(
    states: np.ndarray, actions: np.ndarray, after: np.ndarray, episodes: np.ndarray | None = None
) -> Transitions:
    """Arrays as transitions."""
    return Transitions(states, actions, after, episodes=episodes)  # type: ignore[arg-type]


def blurred(data: Transitions, noise: float, generator: torch.Generator) -> Transitions:
    """The same with N(0, noise² I) on the next states."""
    drawn = torch.randn(data.next_states.shape, generator=generator)
    return replace(data, next_states=data.next_states + noise * drawn)


def learn(
    world: DynamicsModel, model: Model, data: Transitions, budget: Budget, seed: int
) -> FitReport:
    """Fit to a task's transitions, a tenth of which stop it and are not learned from.

    Where the budget has noise, every copy of a transition gets its own noise; a model of whole
    numbers needs none.
    """
    options = FitOptions(
        steps=budget.steps,
        batch_size=budget.batch_size,
        learning_rate=model.learning_rate,
        weight_decay=model.weight_decay,
        check_every=max(1, min(200, budget.steps // 10)),
        patience=8,
        holdout=HELD_OUT,
        blur=budget.blur,
    )
    generator = torch.Generator().manual_seed(seed)
    if not budget.noise or world.whole:
        return fit(world, data, options, generator)
    order = torch.randperm(len(data), generator=generator)
    held = max(1, round(HELD_OUT * len(data)))
    kept = data.rows(order[held:].repeat(budget.copies))
    holdout = data.rows(order[:held].repeat(min(budget.copies, 4)))
    return fit(
        world,
        blurred(kept, budget.noise, generator),
        options,
        generator,
        blurred(holdout, budget.noise, generator),
    )
