"""Arguments of agents, checked before anything is built from them.

SB3 takes most numbers as they are, and fails later, elsewhere, or never.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

from vaerl.data import load_demonstrations
from vaerl.names import check_name
from vaerl.policies.spaces import check_action_space, check_observation_space

LEAST = {
    **dict.fromkeys(("batch_size", "buffer_size", "n_epochs", "n_steps", "stats_window_size"), 1),
    **dict.fromkeys(("target_update_interval", "train_freq", "net_arch", "n_critics"), 1),
    **dict.fromkeys(("gamma", "gae_lambda", "tau", "learning_rate", "learning_starts"), 0),
    **dict.fromkeys(("clip_range", "clip_range_vf", "max_grad_norm", "target_kl", "vf_coef"), 0),
    "ent_coef": 0,
    "gradient_steps": -1,
}
"""The smallest legal number of each argument; of several numbers, each counts."""
MOST = {**dict.fromkeys(("gamma", "gae_lambda", "tau"), 1), "learning_rate": 1000}
WHOLE = (
    *("batch_size", "buffer_size", "n_epochs", "n_steps", "learning_starts", "gradient_steps"),
    *("target_update_interval", "stats_window_size"),
)
NUMBERS = (*WHOLE, "gamma", "gae_lambda", "tau", "max_grad_norm", "vf_coef")
"""Arguments that are one number; others may also be a text, a function, a list or None."""
GIVEN = {"self", "observation_space", "action_space", "lr_schedule"}
"""Arguments of a policy that its agent gives."""
SEEDS = 2**32
MISSING = object()


def check_argument(name: str, value: Any) -> None:
    """Raise a ValueError of one line for a number out of its range; all else passes.

    >>> check_argument("gamma", 0.99)
    >>> check_argument("buffer_size", 0)
    Traceback (most recent call last):
    ValueError: buffer_size: got 0, expected a whole number, 1 or more
    """
    one = name in NUMBERS
    numbers = value if isinstance(value, list | tuple) and not one else [value]
    low, high = LEAST.get(name, -math.inf), MOST.get(name, math.inf)
    for number in numbers:
        is_number = isinstance(number, Real) and not isinstance(number, bool)
        if is_number or one:
            broken = not isinstance(number, Integral if name in WHOLE else Real)
            if broken or not is_number or not low <= number <= high:
                span = f"from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
                kind = "a whole number" if name in WHOLE else "a number"
                raise ValueError(f"{name}: got {value!r}, expected {kind}, {span}")


def check_steps(steps: Any) -> int:
    """`steps` as a whole number; a ValueError of one line unless it is one, 0 or more.

    >>> check_steps(1e5)
    100000
    """
    number = isinstance(steps, Real) and not isinstance(steps, bool)
    if not number or steps != steps // 1 or steps < 0:
        raise ValueError(f"total_timesteps: got {steps!r}, expected a whole number, 0 or more")
    return int(steps)


def constructor_arguments(kind: type) -> dict[str, Any]:
    """The type of each argument of a class's constructor, with those that it hands on to its bases.

    >>> constructor_arguments(torch.nn.Flatten)["end_dim"]
    <class 'int'>
    """
    found: dict[str, Any] = {}
    for cls in kind.__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        hints = _hints(vars(cls)["__init__"])
        own = {
            p.name: hints.get(p.name, p.annotation) for p in parameters if p.kind not in variable
        }
        found = {**own, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # the arguments of its bases are decided by this class
    return found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, localns={"VecEnv": VecEnv})  # a name within SB3's
    except NameError:  # a type that only type checkers import
        return {}


def check_spaces(agent: Any) -> None:
    """Raise a ValueError of one line for an agent without an environment."""
    if getattr(agent, "observation_space", None) is None:
        raise ValueError("env: got None, expected an environment or its id")


class Checked:
    """An agent whose arguments are checked; mixed in before the SB3 class."""

    observation_space: spaces.Space
    policy_class: type[BasePolicy]
    policy_kwargs: dict[str, Any]
    discrete: ClassVar[bool] = False
    """Whether it takes environments with discrete actions, besides boxes."""
    kept: ClassVar[tuple[str, ...]] = ()
    """Arguments of the constructor that `load` cannot change: the saved policy is made of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(super().__init__).bind_partial(*args, **kwargs).arguments
        for name, value in given.items():
            if name in LEAST:
                check_argument(name, value)
        _check_device(given.get("device", "auto"))
        _check_verbose(given.get("verbose", 0))
        buffer = given.get("replay_buffer_class")
        if buffer is not None and not (isinstance(buffer, type) and issubclass(buffer, BaseBuffer)):
            raise ValueError(
                f"replay_buffer_class: got {buffer!r:.60}, expected a class of SB3's buffers or "
                "None"
            )
        options = given.get("replay_buffer_kwargs")
        if not isinstance(options, Mapping | None):
            raise ValueError(f"replay_buffer_kwargs: got {options!r:.60}, expected a dict or None")
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        check_spaces(self)
        self._check_policy_kwargs()
        for name in LEAST:
            value = getattr(self, name, getattr(self, f"_{name}", MISSING))
            if value is not MISSING:
                check_argument(name, value)
        rate = getattr(self, "learning_rate", 0.0)
        if not callable(rate) and (isinstance(rate, bool) or not isinstance(rate, Real)):
            raise ValueError(f"learning_rate: got {rate!r}, expected a number or a schedule")
        noise = getattr(self, "action_noise", None)
        if not isinstance(noise, ActionNoise | None):
            raise ValueError(f"action_noise: got {noise!r}, expected an ActionNoise of SB3 or None")
        seed = getattr(self, "seed", None)
        if seed is not None and not (hasattr(type(seed), "__index__") and 0 <= seed < SEEDS):
            raise ValueError(f"seed: got {seed!r}, expected a whole number from 0 to {SEEDS - 1}")
        super()._setup_model()  # type: ignore[misc]

    def _check_policy_kwargs(self) -> None:
        """Raise a ValueError of one line for an option that the policy's class has not."""
        legal = {**constructor_arguments(self.policy_class)}
        own = inspect.signature(self.policy_class.__init__).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in own):  # else they may go anywhere
            for name in self.policy_kwargs:
                check_name("policy_kwargs: option", name, sorted(legal.keys() - GIVEN))

    def _setup_learn(self, total_timesteps: Any, *args: Any, **kwargs: Any) -> Any:
        steps = check_steps(total_timesteps)
        return super()._setup_learn(steps, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def load(cls, path: Any, env: Any = None, *args: Any, **options: Any) -> Any:
        """As in SB3; `env` may be the name of an environment, as in the constructor.

        `data` gives an agent the demonstrations that it learns from: they are not saved with it.
        """
        for name in cls.kept:
            if name in options:
                raise ValueError(
                    f"{name}: got {options[name]!r} for a saved agent, expected none: it keeps the "
                    f"one that it was made with; make a new {cls.__name__} for another"
                )
        known = {*constructor_arguments(cls), *inspect.signature(BaseAlgorithm.load).parameters}
        for name in options:
            check_name(f"option of a saved {cls.__name__}", name, sorted(known - {"self", "path"}))
        if options.get("data") is not None:
            options["_data"] = load_demonstrations(options.pop("data"))
        try:
            return super().load(  # type: ignore[misc]
                path, check_env(env, discrete=cls.discrete), *args, **options
            )
        except KeyError as error:  # SB3 looks for what a DQN has, whatever did not fit
            if isinstance(error.__context__, ValueError):
                raise error.__context__ from None
            raise

    def set_parameters(
        self,
        load_path_or_dict: Any,
        exact_match: bool = True,
        device: torch.device | str = "auto",
    ) -> None:
        """As in SB3."""
        found = load_path_or_dict
        if not isinstance(found, dict):
            _, found, _ = load_from_zip_file(found, device=device, load_data=False)
        self._check_parameters(found, exact_match)
        super().set_parameters(found, exact_match, device)  # type: ignore[misc]

    def _check_parameters(self, found: Collection[str], whole: bool) -> None:
        """Raise a ValueError of one line for names of modules and optimizers that do not fit."""
        own = self._get_torch_save_params()[0]  # type: ignore[attr-defined]
        strange = [name for name in found if name not in own]
        missing = [name for name in own if name not in found and whole]
        if strange or missing:
            got = f"none for {', '.join(missing)}" if missing else f"some for {', '.join(strange)}"
            raise ValueError(
                f"parameters: got {got}; expected those of {type(self).__name__} with the same "
                "options"
            )


def _check_device(device: Any) -> None:
    try:
        get_device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"device: got {device!r:.60}, expected 'auto', 'cpu', 'cuda', another of torch's names "
            "or a torch.device"
        ) from None


def _check_verbose(verbose: Any) -> None:
    if not isinstance(verbose, Integral) or int(verbose) not in (0, 1, 2):
        raise ValueError(f"verbose: got {verbose!r:.60}, expected 0, 1 or 2")


def check_env(env: GymEnv | str | None, verbose: int = 0, discrete: bool = False) -> GymEnv | None:
    """The environment, made if it is a name, with an action space that a density can act in, or,
    with `discrete`, a planner in discrete ones."""
    if env is None:
        return None
    made = maybe_make_env(env, verbose)
    if not hasattr(made, "action_space"):
        raise ValueError(f"env: got {env!r:.60}, expected an environment or its id")
    check_observation_space(made.observation_space)
    if not (discrete and isinstance(made.action_space, spaces.Discrete)):
        check_action_space(made.action_space)
    return made


def check_keys(space: spaces.Space, observation: Any) -> None:
    """Raise a ValueError of one line unless a dict observation has the keys of its space."""
    if isinstance(space, spaces.Dict):
        found = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
        if found != sorted(space.spaces):
            raise ValueError(
                f"observation: got {found}, expected a dict with the keys {sorted(space.spaces)}"
            )
