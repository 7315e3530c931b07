"""An ensemble of densities over (Δs, reward), with heads over what follows and its normalisers.

    p(Δs, r, d | s, a) = p(Δs, r | s, a) · p(d | s, a, Δs)

The first factor is any density of `vaerl.densities`, on standardised numbers. The second is a
Bernoulli law where terminations are learned, so that no density has to put a continuous law on two
atoms; a reward may stand there too, see `vaerl.dynamics.heads`. Each of the E members has its own
networks; all are computed as one batch.

Some environments draw a hidden quantity once an episode. ``latent="episode"`` models it by a code
that a roll-out draws at its start and keeps (`vaerl.dynamics.episodes`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities import ConditionalValue, density_class, make_density
from vaerl.densities.base import Folded, check_dtype
from vaerl.densities.noise import code_noise
from vaerl.densities.options import (
    check_choice,
    check_flag,
    check_named,
    check_positive,
    check_sizes,
)
from vaerl.dynamics.batched import batch_members, extract_member, select_members
from vaerl.dynamics.data import Transitions, check_transitions, check_whole
from vaerl.dynamics.episodes import LATENTS, EpisodeCode, with_code
from vaerl.dynamics.heads import HEADS, LEARNED_REWARDS, FoldedHead, fold_heads
from vaerl.dynamics.normaliser import Normaliser
from vaerl.dynamics.parts import (
    Completion,
    Features,
    Function,
    check_part,
    check_predicted,
    count_features,
)
from vaerl.native.library import PRECISIONS
from vaerl.nets import mlp

MOST_MEMBERS = 1000
PROPAGATIONS = ("ts1", "tsinf", "expectation")


class Ensemble(nn.Module):
    """E conditional densities p(Δs, r | s, a), any density by name.

    Args:
        state_dim: S.
        action_dim: A, or the number of discrete actions.
        density, density_kwargs: name and options of the density (`vaerl.densities`); they
            override its class's `options_for` dynamics. With ``whole=True`` the changes Δs are
            whole numbers and are not standardised.
        members: E.
        elites: members that roll-outs use, the best on the holdout; all of them if not given.
        discrete_actions: actions are whole numbers ``(B,)``, given to the networks as one-hot.
        reward: "learned" beside Δs; "regressed" from (s, a, Δs) by squared error, for rare rewards,
            which a likelihood takes for noise (the density is then one of Δs alone); a known
            function of (s, a, s'), or None for none.
        termination: "learned" from (s, a, Δs), a known function, or None for never.
        propagation: how roll-outs go through the members, one of `PROPAGATIONS`; see
            `vaerl.dynamics.rollout`.
        termination_hidden: widths of the networks of a learned termination and a regressed reward.
        features: function of the states that the networks see in their place (sine and cosine of an
            angle, one-hot cells); it does not change the targets.
        predicted: coordinates of s' that are modelled, all if not given.
        complete: gives s' from them where they are not all: a clock, an angle from its speed.
        latent: "step" draws all randomness at every step; "episode" also keeps a code of size
            `latent_dim` through a roll-out, fitted with `latent_k` importance samples.
        latent_dim, latent_k: see `latent`.

    Raises:
        ValueError: an illegal option, in one line.

    Next states are kept inside the box of the data it was fitted to, widened by its own width on
    every side, so that long roll-outs stay finite.

    >>> ensemble = Ensemble(3, 1, density="gaussian", members=2)
    >>> ensemble.member_values(torch.zeros(7, 3), torch.zeros(7, 1)).batch_shape
    torch.Size([2, 7])
    """

    elites: Tensor
    state_low: Tensor
    state_high: Tensor
    fits: Tensor

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        *,
        density: str = "cvae",
        density_kwargs: Mapping[str, Any] | None = None,
        members: int = 5,
        elites: int | None = None,
        discrete_actions: bool = False,
        reward: str | Function | None = "learned",
        termination: str | Function | None = None,
        propagation: str = "tsinf",
        termination_hidden: Sequence[int] = (64, 64),
        features: Features | None = None,
        predicted: Sequence[int] | None = None,
        complete: Completion | None = None,
        latent: str = "step",
        latent_dim: int = 2,
        latent_k: int = 8,
    ) -> None:
        super().__init__()
        self.state_dim = check_positive("state_dim", state_dim)
        self.action_dim = check_positive("action_dim", action_dim)
        self.members = check_positive("members", members, at_most=MOST_MEMBERS)
        kept = members if elites is None else check_positive("elites", elites)
        if kept > members:
            raise ValueError(f"elites: got {kept}, expected at most the {members} members")
        self.discrete_actions = check_flag("discrete_actions", discrete_actions)
        self.reward = check_part("reward", reward, LEARNED_REWARDS)
        self.termination = check_part("termination", termination)
        self.propagation = check_choice("propagation", propagation, PROPAGATIONS)
        self.density_name = density
        defaults = density_class(density).options_for.get("dynamics", {})
        self._density_kwargs = {**defaults, **check_named("density_kwargs", density_kwargs)}
        self.features = features
        self.predicted = check_predicted(predicted, complete, state_dim)
        self.complete = complete
        self.latent = check_choice("latent", latent, LATENTS)
        check_positive("latent_dim", latent_dim)
        self.latent_dim = latent_dim if latent == "episode" else 0
        self.latent_k = check_positive("latent_k", latent_k)
        self.change_dim = len(self.predicted)
        self.event_dim = self.change_dim + (reward == "learned")
        self.context_dim = count_features(features, state_dim) + action_dim
        self._hidden = check_sizes("termination_hidden", termination_hidden)

        self.networks = nn.ModuleDict(
            {"density": batch_members([self._plain_density() for _ in range(members)])}
        )
        self.whole = bool(getattr(self.networks["density"], "whole", False))
        if self.whole and reward == "learned":
            raise ValueError(
                "reward: got 'learned' with whole=True, expected 'regressed', a function or None: "
                "a learned reward stands beside Δs, where all are whole numbers"
            )
        if latent == "episode" and reward == "regressed":
            raise ValueError(
                "reward: got 'regressed' with latent='episode', expected 'learned', a function or "
                "None: the code of an episode does not reach a regressed reward"
            )
        if self.whole and propagation == "expectation":
            raise ValueError(
                "propagation: got 'expectation' with whole=True, expected 'ts1' or 'tsinf': "
                "a mean is not a whole number"
            )
        heads = {"termination": termination == "learned", "reward": reward == "regressed"}
        for name in (name for name in HEADS if heads[name]):
            sizes = (self.context_dim + self.change_dim, self._hidden, 1)
            self.networks[name] = batch_members([mlp(*sizes) for _ in range(members)])
        if latent == "episode":
            size = self.context_dim + self.event_dim
            self.networks["episode"] = batch_members(
                [EpisodeCode(size, self.latent_dim) for _ in range(members)]
            )
        self.input_normaliser = Normaliser(self.context_dim)
        self.target_normaliser = Normaliser(self.event_dim)
        if reward == "regressed":
            self.reward_normaliser = Normaliser(1)
        self.register_buffer("elites", torch.arange(kept))
        self.register_buffer("state_low", torch.full((state_dim,), -torch.inf))
        self.register_buffer("state_high", torch.full((state_dim,), torch.inf))
        self.register_buffer("fits", torch.zeros((), dtype=torch.int64))
        self._matmul_precision = "float32"
        self._acting: dict[int, nn.ModuleDict] = {}  # copies for roll-outs: no part of the state
        self._folded: dict[int, Folded | None] = {}
        self._heads: dict[int, dict[str, FoldedHead]] = {}
        self.register_load_state_dict_post_hook(_after_loading)

    # -- what goes in and comes out ----------------------------------------------------------------

    def inputs(self, states: Tensor, actions: Tensor) -> Tensor:
        """Standardised contexts ``(*batch, C)``; discrete actions ``(*batch,)``, one-hot."""
        return self.input_normaliser(self.raw_inputs(states, actions))

    def raw_inputs(self, states: Tensor, actions: Tensor) -> Tensor:
        """Inputs before standardisation: features of the states, then actions."""
        for name, given in (("states", states), ("actions", actions)):
            if not isinstance(given, Tensor):
                raise TypeError(f"{name}: got {type(given).__name__}, expected a torch.Tensor")
            if given.is_floating_point():
                check_dtype(name, given, self.input_normaliser.mean.dtype)
        if states.shape[-1] != self.state_dim:
            raise ValueError(f"states: got size {states.shape[-1]}, expected {self.state_dim}")
        actions = self._check_actions(actions)
        if states.shape[:-1] != (actions if self.discrete_actions else actions[..., 0]).shape:
            raise ValueError(
                f"actions: got shape {tuple(actions.shape)}, "
                f"expected the batch of states {tuple(states.shape)}"
            )
        if self.discrete_actions:
            actions = functional.one_hot(actions, self.action_dim).to(states)
        seen = states if self.features is None else self.features(states)
        return torch.cat((seen, actions), dim=-1)

    def targets(self, data: Transitions) -> Tensor:
        """Standardised events (Δs, r) ``(N, X)``; whole numbers are left unchanged."""
        events = self._events(data)
        return events.round() if self.whole else self.target_normaliser(events)

    def _events(self, data: Transitions) -> Tensor:
        change = (data.next_states - data.states)[:, self.predicted]
        if self.reward != "learned":
            return change
        assert data.rewards is not None, "check(data) comes first"
        return torch.cat((change, data.rewards.unsqueeze(-1)), dim=-1)

    def head_targets(self, data: Transitions) -> tuple[Tensor | None, Tensor | None]:
        """Standardised rewards and ends ``(N,)`` of checked data, where heads learn them."""
        ends = data.terminations if self.termination == "learned" else None
        if self.reward != "regressed":
            return None, ends
        assert data.rewards is not None, "check(data) comes first"
        return self.reward_normaliser(data.rewards.unsqueeze(-1)).squeeze(-1), ends

    def check(self, data: Transitions) -> Transitions:
        """Return `data` if it has the model's sizes and parts, else raise one line."""
        if check_transitions("data", data).states.shape[1] != self.state_dim:
            raise ValueError(f"states: got size {data.states.shape[1]}, expected {self.state_dim}")
        self._check_actions(data.actions)
        needed = {
            "rewards": self.reward in LEARNED_REWARDS,
            "terminations": self.termination == "learned",
            "episodes": self.latent == "episode",
        }
        for name, wanted in needed.items():
            if wanted and getattr(data, name) is None:
                raise ValueError(f"{name}: got None, expected (N,): the model learns from them")
        if self.whole:
            check_whole(self._events(data), self.predicted)
        return data

    def _check_actions(self, actions: Tensor) -> Tensor:
        """Actions as the networks count them, or one line."""
        if self.discrete_actions == actions.is_floating_point():
            wanted = "whole numbers" if self.discrete_actions else "floats"
            raise TypeError(f"actions: got {actions.dtype}, expected {wanted}")
        if self.discrete_actions:
            actions = actions.long()
            wrong = actions[(actions < 0) | (actions >= self.action_dim)]
            if len(wrong):
                raise ValueError(f"actions: got {wrong[0]}, expected 0 to {self.action_dim - 1}")
        elif actions.shape[-1] != self.action_dim:
            raise ValueError(f"actions: got size {actions.shape[-1]}, expected {self.action_dim}")
        return actions

    @torch.no_grad()
    def standardise(self, data: Transitions) -> None:
        """Fit the normalisers, and the box that next states stay in, to checked data."""
        fixed = self.action_dim if self.discrete_actions else 0
        self.input_normaliser.fit(self.raw_inputs(data.states, data.actions), fixed)
        if not self.whole:
            self.target_normaliser.fit(self._events(data))
        if self.reward == "regressed":
            assert data.rewards is not None, "check(data) comes first"
            self.reward_normaliser.fit(data.rewards.unsqueeze(-1))
        both = torch.cat((data.states, data.next_states))
        low, high = both.amin(0), both.amax(0)
        self.state_low.copy_(2.0 * low - high)
        self.state_high.copy_(2.0 * high - low)
        self.changed()

    # -- forms for roll-outs -----------------------------------------------------------------------

    def acting(self, first: int = 0) -> nn.ModuleDict:
        """The elites' networks without gradients, starting at elite `first` and wrapping around.

        One copy is kept for each `first` until the members change.
        """
        if first not in self._acting:
            elites = self.elites.tolist()
            with torch.inference_mode(False):  # it outlives the planning that asks for it
                self._acting[first] = select_members(self.networks, elites[first:] + elites[:first])
        return self._acting[first]

    @property
    def matmul_precision(self) -> str:
        """Of native roll-outs, "float32" or "bf16" (behind the first layer, where the processor has
        AVX512-BF16); no part of the state."""
        return self._matmul_precision

    @matmul_precision.setter
    def matmul_precision(self, value: str) -> None:
        self._matmul_precision = check_choice("matmul_precision", value, PRECISIONS)
        self._folded.clear()

    def folded(self, first: int = 0) -> Folded | None:
        """The fast form of the elites' densities in the same order, or None.

        It takes raw inputs ``(elites, B, C)`` and gives events in their own units.
        """
        if first not in self._folded:
            density: Any = self.acting(first)["density"]
            seen, drawn = self.input_normaliser, self.target_normaliser
            with torch.inference_mode(False):
                folded = density.fold((seen.mean, seen.scale), (drawn.mean, drawn.scale))
            if folded is not None:
                folded.matmul_precision = self.matmul_precision
            self._folded[first] = folded
        return self._folded[first]

    def folded_heads(self, first: int = 0) -> dict[str, FoldedHead]:
        """The fast forms of their heads, by name."""
        if first not in self._heads:
            seen = self.input_normaliser, self.target_normaliser, self.change_dim
            with torch.inference_mode(False):
                self._heads[first] = fold_heads(self.acting(first), *seen)
        return self._heads[first]

    def changed(self) -> None:
        """Drop these forms after members, elites or their device changed."""
        self._heads.clear()
        self._acting.clear()
        self._folded.clear()

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.changed()
        return super()._apply(fn, recurse)

    # -- members -----------------------------------------------------------------------------------

    def member_values(self, states: Tensor, actions: Tensor) -> ConditionalValue:
        """p(standardised (Δs, r) | s, a) of the elites at B rows, batch shape (elites, B).

        Raises ValueError for a model with a code for each episode, whose law has no such form.
        """
        if self.latent == "episode":
            raise ValueError("latent: got 'episode', expected 'step': draw with `step` instead")
        density: Any = self.acting()["density"]
        return density(self._shared(states, actions))

    def member_samples(
        self, states: Tensor, actions: Tensor, count: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws ``(count, elites, B, X)`` of the standardised (Δs, r), each with its own code."""
        context = self._shared(states, actions)
        return self.sample_events(self.acting(), context, count, generator)

    def _shared(self, states: Tensor, actions: Tensor) -> Tensor:
        context = self.inputs(states, actions)
        if context.ndim != 2:
            raise ValueError(f"states: got shape {tuple(states.shape)}, expected (B, S)")
        return context.expand(len(self.elites), *context.shape)

    def sample_events(
        self,
        networks: Any,
        context: Tensor,
        count: int,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draws ``(count, E, B, X)`` of `networks` at contexts ``(E, B, C)``, each its own code."""
        if self.latent == "step":
            return networks["density"](context).sample((count,), generator)
        shape = (count, *context.shape[:-1])
        code = networks["episode"].place(code_noise(shape, self.latent_dim, context, generator))
        return networks["density"](with_code(context, code)).sample((), generator)

    def member(self, index: int) -> Self:
        """A model of the one member `index`, which shares nothing with this one."""
        check_positive("index", index, at_least=0, at_most=self.members - 1)
        one = copy.deepcopy(self)
        one.networks = select_members(self.networks, [index]).requires_grad_(True)
        one.members, one.elites = 1, torch.zeros_like(self.elites[:1])
        one.changed()
        return one

    def member_density(self, index: int) -> nn.Module:
        """The density of member `index` as an ordinary one, over standardised numbers."""
        check_positive("index", index, at_least=0, at_most=self.members - 1)
        return extract_member(self.networks["density"], index, self._plain_density())

    def _plain_density(self) -> nn.Module:
        return make_density(
            self.density_name,
            context_dim=self.context_dim + self.latent_dim,
            event_dim=self.event_dim,
            **self._density_kwargs,
        )


def _after_loading(model: Ensemble, keys: Any) -> None:
    model.changed()
