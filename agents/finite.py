"""Training stops where a number is not finite, and the error says which, where and when."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn

from vaerl.disk.errors import NotFinite
from vaerl.finite import all_finite, find_bad, first_bad, number

Arrays = dict[str, np.ndarray]
LARGE = 1e4
"""Size of an observation from which networks that see it unscaled diverge."""


class CheckFinite(BaseCallback):
    """Stops at the first action, reward, observation or loss that is NaN or infinite.

    Agents of vaerl have it built in; pass it to `learn` of another SB3 agent.

    Raises:
        NotFinite: with the step, the number of the environment, and the last finite value.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, Arrays] = {}
        self._losses: dict[str, float] = {}
        self._keys: list[str] = []  # of losses among those that were logged
        self._logged = 0
        self._told = False

    def _on_training_start(self) -> None:
        observation = self.model._last_obs
        if observation is not None:
            self._check("observation", _parts(observation))
            self._name_large(_parts(observation))

    def _on_rollout_start(self) -> None:
        self._check_losses()

    def _on_training_end(self) -> None:
        self._check_losses()

    def _on_step(self) -> bool:
        found = self.locals
        if "new_obs" not in found:  # no environment is stepped
            return True
        actions, rewards = {"": found["actions"]}, {"": found["rewards"]}
        observations = _parts(found["new_obs"])
        # One sum tells that all is well; every step of a training comes by.
        size = _size(actions) + _size(rewards) + _size(observations)
        if not math.isfinite(size):
            self._check("action", actions)
            self._check("reward", rewards)
        for env, info in enumerate(found["infos"]):
            if "terminal_observation" in info:
                parts = _parts(info["terminal_observation"])
                self._check_one(env, "terminal observation", parts, self._last.get("observation"))
        if not math.isfinite(size):
            self._check("observation", observations)
        elif size > LARGE**2:
            self._name_large(observations)
        self._last = {"action": actions, "reward": rewards, "observation": observations}
        return True

    def _check(self, what: str, parts: Arrays) -> None:
        for part in parts.values():
            if not all_finite(part):
                env = first_bad(part)[0]
                row = {key: values[env] for key, values in parts.items()}
                self._check_one(env, what, row, self._last.get(what))
        self._last[what] = parts

    def _check_one(self, env: int, what: str, row: Arrays, last: Arrays | None) -> None:
        before = None if last is None else {key: values[env] for key, values in last.items()}
        if bad := find_bad(row, before):
            error = NotFinite(f"env {env}: {what}{bad[0]}", step=self.num_timesteps)
            error.details += bad[1:]
            raise error

    def _name_large(self, parts: Arrays) -> None:
        """Say once that an observation is too large for networks that see it as it is."""
        for key, part in parts.items():
            if self._told or part.dtype.kind != "f" or not _size({"": part}) > LARGE**2:
                continue
            env, *place = (int(i) for i in np.unravel_index(np.abs(part).argmax(), part.shape))
            value = float(part[(env, *place)])
            if abs(value) > LARGE and not _scales(self.model.policy):
                self._told = True
                name = f"observation{f' {key!r}' if key else ''}{place or ''}"
                print(
                    f"env {env}: {name} is {number(value)}, beyond {LARGE:g} in size, where "
                    "networks diverge; scale observations, for example with VecNormalize",
                    file=sys.stderr,
                )
                return

    def _check_losses(self) -> None:
        found = self.logger.name_to_value
        if len(found) != self._logged:
            self._logged = len(found)
            self._keys = [k for k in found if k.startswith("train/") and k.endswith("loss")]
        for key in self._keys:
            value = found[key]
            if not math.isfinite(value):
                error = NotFinite(f"loss {key.removeprefix('train/')} is {number(value)}")
                error.step = self.model.num_timesteps
                if key in self._losses:
                    last = number(self._losses[key])
                    error.details.append(f"the last finite value was {last}")
                raise error
            self._losses[key] = value


@contextmanager
def named(agent: BaseAlgorithm) -> Iterator[None]:
    """Add to a `NotFinite` of the block when it happened and which parameter is to blame.

    Inside, the optimizers refuse gradients that are not finite. The gradients of biases tell: one
    that is not finite further on reaches those of all earlier layers.
    """
    modules, optimizers = _learned(agent)
    names = {
        id(parameter): f"{label}.{name}"
        for label, module in modules.items()
        for name, parameter in module.named_parameters()
    }
    check = _CheckGradients(names)
    handles = [optimizer.register_step_pre_hook(check) for optimizer in optimizers]
    try:
        yield
    except NotFinite as error:
        if error.step is None:
            error.step = agent.num_timesteps
        last = agent.logger.name_to_value.get(error.key) if error.key else None
        if last is not None and math.isfinite(last):
            error.details.append(f"the last finite value was {number(last)}")
        bad = (n for label, module in modules.items() for n in _bad_parameters(label, module))
        if (name := next(bad, None)) is not None:
            error.details.append(f"parameter {name} is not finite")
        raise
    finally:
        for handle in handles:
            handle.remove()


class _CheckGradients:
    """A hook of optimizers. The native update, which looks at gradients itself, does without it."""

    unneeded_natively = True

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self._biases: dict[torch.optim.Optimizer, list[Any]] = {}

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if (biases := self._biases.get(optimizer)) is None:
            groups = optimizer.param_groups
            biases = [p for group in groups for p in group["params"] if _is_bias(p)]
            self._biases[optimizer] = biases
        _check_gradients(biases, self.names)


def _is_bias(parameter: Any) -> bool:
    """Of one layer, or of layers of several critics side by side ``(N, 1, F)``."""
    return parameter.ndim == 1 or (parameter.ndim == 3 and parameter.shape[1] == 1)


def _check_gradients(members: list[Any], names: dict[int, str]) -> None:
    gradients = [gradient for p in members if (gradient := p.grad) is not None]
    if not gradients or gradients[0].device.type != "cpu":  # a GPU would have to be waited for
        return
    if math.isfinite(torch.cat([gradient.flatten() for gradient in gradients]).sum().item()):
        return
    for parameter in members:
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            name = names.get(id(parameter), f"a variable of shape {tuple(parameter.shape)}")
            row = first_bad(parameter.grad.numpy())
            raise NotFinite(f"gradient of {name} is {number(parameter.grad[row])}")


def _learned(agent: BaseAlgorithm) -> tuple[dict[str, nn.Module], list[torch.optim.Optimizer]]:
    """Modules by name, and optimizers, those of modules too."""
    parts: dict[str, Any] = {
        name: recursive_getattr(agent, name) for name in agent._get_torch_save_params()[0]
    }
    modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    owned = [getattr(m, "optimizer", None) for module in modules.values() for m in module.modules()]
    found = {id(p): p for p in (*parts.values(), *owned) if isinstance(p, torch.optim.Optimizer)}
    return modules, list(found.values())


def _bad_parameters(label: str, module: nn.Module) -> Iterator[str]:
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            yield f"{label}.{name}"


def _scales(policy: Any) -> bool:
    """Whether a policy or its model standardises observations itself."""
    own = hasattr(policy, "standardise") or hasattr(policy, "world")
    return own or getattr(policy, "normalizer", None) is not None


def _size(parts: Arrays) -> float:
    """Sum of all squares; not finite where an entry is not, or where a float ends."""
    return sum(float(np.vdot(part, part)) for part in parts.values() if part.dtype.kind == "f")


def _parts(observation: Any) -> Arrays:
    parts = observation if isinstance(observation, dict) else {"": observation}
    return {key: np.asarray(part) for key, part in parts.items()}
