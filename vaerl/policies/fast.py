"""Policies without gradients: trunk and folded density, for observations that are flat floats.

The calls of its modules dominate the cost of an action of a small policy. Where the trunk is a
plain stack and the density has a fast form (`ConditionalDensity.fold`), acting uses these;
everywhere else it uses the modules. Both give the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from vaerl.densities import ConditionalDensity
from vaerl.densities.base import Folded
from vaerl.densities.fold import fold_stack
from vaerl.policies.running import NormalizedFeatures, RunningMoments


class Trunks(NamedTuple):
    """Networks over flat float observations."""

    normalizer: RunningMoments | None
    """What observations pass first, if anything."""
    networks: Sequence[nn.Module]

    @classmethod
    def of(
        cls, policy: Any, extractors: Sequence[Any], networks: Sequence[nn.Module]
    ) -> Trunks | None:
        """Networks behind features extractors that leave observations flat and have at most one
        normaliser; None behind others."""
        space = policy.observation_space
        flat = isinstance(space, spaces.Box) and len(space.shape) == 1
        plain = flat and np.issubdtype(space.dtype, np.floating)
        normalizers: set[RunningMoments | None] = set()
        for extractor in extractors:
            normalized = type(extractor) is NormalizedFeatures
            inner = extractor.inner if normalized else extractor
            plain = plain and type(inner) is FlattenExtractor
            normalizers.add(extractor.normalizer.whole if normalized else None)
        return cls(normalizers.pop(), networks) if plain and len(normalizers) == 1 else None


class FastPolicy:
    """A snapshot of a policy; it has to be made again after the policy has changed.

    Args:
        normalizer: of observations, which may go on changing.
        trunks: networks over the observation; the first gives the density's context.
        density: the folded density.
        device: of its parameters.
    """

    def __init__(
        self,
        normalizer: RunningMoments | None,
        trunks: list[Any],
        density: Folded,
        device: torch.device,
    ) -> None:
        self.normalizer, self.trunks = normalizer, trunks
        self.density, self.device = density, device

    def rows(self, obs: np.ndarray) -> Tensor | None:
        """Numpy observations as float32 rows; None if they are empty or not real numbers."""
        if obs.dtype.kind not in "fiu" or not len(obs):
            return None
        return torch.from_numpy(obs.astype(np.float32, copy=False)).to(self.device)

    def __call__(self, obs: Tensor) -> list[Tensor]:
        """The output of each trunk at observations ``(B, S)``."""
        if self.normalizer is not None:
            obs = self.normalizer(obs)
        outputs = []
        for steps in self.trunks:
            h = obs
            for step in steps:
                h = step(h)
            outputs.append(h)
        return outputs


class Fast:
    """Holds the `FastPolicy` of a policy, whose copies and pickles begin without one.

    Versions of parameters tell of changes, except that a fused optimiser does not count its steps:
    the policy's own `optimizer` is asked to say so.
    """

    native: Callable[[Any], Any] | None = None
    """What draws actions instead where a native update says so; it may return None."""

    def __init__(self) -> None:
        self._found: FastPolicy | None = None
        self._watch: _Watch | None = None
        self._optimizer: Any = None

    def __call__(
        self,
        policy: nn.Module,
        density: ConditionalDensity,
        trunks: Callable[[], Trunks | None],
    ) -> FastPolicy | None:
        """The current fast form of `policy`, or None.

        Args:
            policy: the module that owns everything else.
            density: its head.
            trunks: gives its networks over flat observations, that of the density's context first,
                or None where it has none.
        """
        optimizer = getattr(policy, "optimizer", None)
        if optimizer is not self._optimizer:
            self._found, self._optimizer = None, optimizer
            self._optimizer.register_step_post_hook(self._forget)
        watch = self._watch
        if watch is None or watch.outdated:
            seen = trunks()
            normalizer = None if seen is None else seen.normalizer
            watch = self._watch = _Watch(policy, density.recognition_parameters(), normalizer)
            self._found = None
        if watch.changed or self._found is None:
            self._found = None if watch.hooks() else _fold(density, trunks(), watch.device)
        return self._found

    def _forget(self, *_: Any) -> None:
        self._found = None

    _forget.unneeded_natively = True  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: Any) -> Fast:
        return Fast()

    def __getstate__(self) -> dict[str, Any]:
        return {"_found": None, "_watch": None, "_optimizer": None, "native": None}


def _fold(
    density: ConditionalDensity, trunks: Trunks | None, device: torch.device
) -> FastPolicy | None:
    if trunks is None:
        return None
    stacks, folded = [fold_stack(network) for network in trunks.networks], density.fold()
    if folded is None or None in stacks:
        return None
    return FastPolicy(trunks.normalizer, stacks, folded, device)


class _Watch:
    """Whether parameters, buffers, modules or hooks have changed.

    Args:
        policy: the module to watch.
        unused: parameters that acting does not read.
        live: a module that acting calls, so that what it holds may change.
    """

    def __init__(
        self, policy: nn.Module, unused: Sequence[nn.Parameter], live: nn.Module | None
    ) -> None:
        skipped = set(map(id, unused))
        modules = self._modules = [  # kept, so that no new module gets the address of an old one
            module
            for module in policy.modules()
            if module is not live
            and not skipped.intersection(map(id, module.parameters(recurse=False)))
        ]
        self._tensors: list[dict[str, Any]] = [
            own for module in modules for own in (module._parameters, module._buffers) if own
        ]
        self._children: list[dict[str, Any]] = [m._modules for m in modules if m._modules]
        self._hooks = [hooks for m in modules for hooks in (m._forward_hooks, m._forward_pre_hooks)]
        self.device = next(policy.parameters()).device
        self._seen, self._parts = self._numbers(), self._structure()

    def hooks(self) -> int:
        """Number of hooks that watch the modules."""
        return sum(map(len, self._hooks))

    @property
    def outdated(self) -> bool:
        """Whether there are other modules or hooks than those that it watches."""
        return self._structure() != self._parts

    @property
    def changed(self) -> bool:
        """Whether there are other numbers than at the last look.

        Versions count changes in place; memory reveals replaced parameters.
        """
        before, self._seen = self._seen, self._numbers()
        return self._seen != before

    def _numbers(self) -> list[tuple[int, int]]:
        return [
            (tensor.data_ptr(), tensor._version)
            for own in self._tensors
            for tensor in own.values()
            if tensor is not None
        ]

    def _structure(self) -> list[int]:
        parts = map(id, chain.from_iterable(own.values() for own in self._children))
        return [*parts, self.hooks()]
