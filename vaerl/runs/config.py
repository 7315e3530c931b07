"""The configuration of a training run: one frozen record of plain data, checked when it is made."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import gymnasium

from vaerl.agents import AGENTS
from vaerl.envs.making import find_spec, import_environments
from vaerl.names import check_name, did_you_mean
from vaerl.track import TRACKERS

WANDB_MODES = ("online", "offline", "disabled")
DEBUG_STEPS = 128
MOST = 2**53  # of any whole number; beyond it figures count wrongly
MOST_COPIES = 4096  # of the environment
NAMED_SOURCE = re.compile(r"[a-z]{2,}:")
"""Begins a source of data that is not a path, such as minari:NAME."""
AGENT_FIELDS = (
    *("agent", "env", "density", "seed", "n_envs", "density_options", "dynamics"),
    *("dynamics_options", "agent_options", "env_options", "data", "from_"),
)
"""Fields that determine an agent and its data; a run resumes only with the same."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    >>> TrainConfig(env="Pendulum-v1", steps=1000).out
    'runs/sac-cvae-Pendulum-v1-s0'
    """

    env: str = ""
    """Gymnasium id, such as HalfCheetah-v5, vaerl/MultiGoal-v0 or my_module:MyEnv-v0; default: that
    of the data, or of the run that the agent starts from."""
    agent: str = "sac"
    """Algorithm (`vaerl list agents`)."""
    density: str = "cvae"
    """Density of the policy (`vaerl list densities`)."""
    density_options: Mapping[str, Any] = field(default_factory=dict)
    """Argument of the density, such as latent_dims=[8]."""
    dynamics: str = ""
    """Density of the learned model. mbpo: cvae by default; mpc: the same as the density."""
    dynamics_options: Mapping[str, Any] = field(default_factory=dict)
    """Argument of the density of the learned model."""
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    """Argument of the algorithm's constructor, such as learning_rate=1e-3."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Argument of the environment, passed to gymnasium.make."""
    data: str = ""
    """Demonstrations to learn from: a folder, a run, or minari:NAME."""
    from_: str = ""
    """Run of agent bc that the agent starts from; density and policy are then that run's."""
    steps: int = None  # type: ignore[assignment]  # a number once made
    """Environment steps, summed over the copies; updates, for an agent that learns from data;
    default: 100000, for bc 4000."""
    seed: int = 0
    """Seed of the agent, the environments and the evaluations."""
    n_envs: int = 1
    """Copies of the environment."""
    subprocess: bool = False
    """Run each copy of the environment in its own process."""
    worker_timeout: int = 300
    """With subprocess: seconds that a copy may take for a step before it counts as failed."""
    worker_restarts: int = 0
    """With subprocess: failed copies that are begun anew, their episodes cut; 0 ends the run."""
    envpool: bool = False
    """Step the copies with EnvPool, in threads of C++ (extra: envpool); such a run, resumed, begins
    new episodes."""
    device: str = "auto"
    """Device of torch: auto, cpu, cuda or cuda:NUMBER."""
    eval_every: int | None = None
    """Steps between evaluations; 0: only at the end; default: a tenth of the steps."""
    eval_episodes: int | None = None
    """Episodes of an evaluation during training; default: by environment."""
    final_episodes: int | None = None
    """Episodes of the evaluation at the end; default: by environment."""
    picture_every: int | None = None
    """Steps between pictures of the policy; 0: none; default: a fifth of the steps."""
    video: bool = True
    """Record a video of an episode at the end, if the environment can be rendered."""
    out: str = ""
    """Folder of the run; default: runs/AGENT-DENSITY-ENV-sSEED."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; 0: only at the end; default: a quarter of the steps."""
    keep_replay: bool = True
    """Save the replay buffer with checkpoints, so that an off-policy run can continue."""
    track: tuple[str, ...] = ()
    """Trackers besides metrics.jsonl (`vaerl list trackers`)."""
    wandb_project: str = "vaerl"
    """Project on Weights & Biases."""
    wandb_mode: str = "online"
    """Weights & Biases: online (offline if the server does not answer), offline or disabled."""
    wandb_group: str = ""
    """Group on Weights & Biases; default: the folder of the sweep, otherwise AGENT-DENSITY-ENV, and
    a digest of options if there are any, so that runs that differ in their seeds share it."""
    wandb_tags: tuple[str, ...] = ()
    """Tags on Weights & Biases."""

    def __post_init__(self) -> None:
        """Check every value and fill in what depends on other fields."""
        self._check_types()
        if self.steps is None:
            object.__setattr__(self, "steps", AGENTS.load(self.agent).default_steps)
        for name, most in (("steps", MOST), ("n_envs", MOST_COPIES)):
            _check_whole(name, getattr(self, name), 1, most)
        _check_whole("worker_timeout", self.worker_timeout, 1)
        _check_whole("worker_restarts", self.worker_restarts, 0)
        for name in ("eval_episodes", "final_episodes"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1)
        for name, share in (("eval_every", 10), ("picture_every", 5), ("checkpoint_every", 4)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, max(1, self.steps // share))
        for name in ("seed", "eval_every", "picture_every", "checkpoint_every"):
            _check_whole(name, getattr(self, name), 0)
        if self.envpool and self.subprocess:
            raise ValueError("envpool: got it together with subprocess, expected one of them")
        for tracker in self.track:
            TRACKERS.check(tracker, "track")
        check_name("wandb_mode", self.wandb_mode, WANDB_MODES)
        for name, texts, most in (
            ("wandb_group", (self.wandb_group or "default",), 128),
            ("wandb_tags", self.wandb_tags, 64),
        ):
            for text in texts:
                if not 1 <= len(text) <= most:
                    raise ValueError(f"{name}: got {text!r:.60}, expected 1 to {most} characters")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(
                f"device: got {self.device!r}, expected auto, cpu, mps, cuda or cuda:NUMBER"
            )
        self._settle_dynamics()
        self._settle_data()
        if not self.out:
            plans = AGENTS.load(self.agent).plans
            densities = [self.density] if plans else [self.density, self.dynamics]
            names = [self.agent, *filter(None, densities), re.split("[/:]", self.env)[-1]]
            object.__setattr__(self, "out", str(Path("runs", "-".join([*names, f"s{self.seed}"]))))

    def _check_types(self) -> None:
        """Check the kinds of values that a file may hold instead of those expected."""
        for item in fields(self):
            value, hint = getattr(self, item.name), str(item.type)
            if hint.startswith("Mapping"):
                if not isinstance(value, Mapping):
                    raise ValueError(f"{item.name}: got {value!r:.60}, expected an object")
                object.__setattr__(self, item.name, dict(value))
            for kind, words in ((str, "a text"), (bool, "true or false")):
                if hint == kind.__name__ and not isinstance(value, kind):
                    raise ValueError(f"{item.name}: got {value!r:.60}, expected {words}")
        for name in ("env", "agent", "density"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a name")
        for name in ("track", "wandb_tags"):
            value = getattr(self, name)
            if not (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)):
                raise ValueError(f"{name}: got {value!r:.60}, expected a list of names")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))

    def _settle_dynamics(self) -> None:
        """A planner has one density, that of its model; other agents may have a second one."""
        agent = AGENTS.load(self.agent)
        given = self.dynamics or self.dynamics_options
        if agent.plans:
            object.__setattr__(self, "dynamics", self.dynamics or self.density)
            object.__setattr__(self, "density", self.dynamics)
            options = {**self.density_options, **self.dynamics_options}
            object.__setattr__(self, "density_options", options)
            object.__setattr__(self, "dynamics_options", dict(options))
        elif agent.learns_model:
            object.__setattr__(self, "dynamics", self.dynamics or "cvae")
        elif given:
            raise ValueError(
                f"dynamics: got {given!r}, expected none: agent {self.agent!r} learns no model"
            )

    def _settle_data(self) -> None:
        """Check that the agent and the data go together; a path is made absolute."""
        agent = AGENTS.load(self.agent)
        if self.data and not agent.takes_data:
            raise ValueError(
                f"data: got {self.data!r}, expected none: agent {self.agent!r} learns from no data"
            )
        if agent.needs_data and not self.data:
            raise ValueError(
                f"data: got none, expected the demonstrations that agent {self.agent!r} learns "
                "from: a folder, a run, or minari:NAME"
            )
        if self.from_:
            object.__setattr__(self, "from_", str(Path(self.from_).expanduser().absolute()))
        if self.data and not NAMED_SOURCE.match(self.data):  # a run may be read from elsewhere
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))

    def difference(self, other: TrainConfig, *also: str) -> str:
        """The first field that makes the agents of two runs different; "" if there is none.

        A run is stored as JSON, so a tuple equals the list of its numbers.

        >>> TrainConfig("Pendulum-v1", seed=1).difference(TrainConfig("Pendulum-v1"))
        'seed: got 1, expected 0'
        >>> a, b = ({"betas": (0.5, 0.9)}, {"betas": [0.5, 0.9]})
        >>> one = TrainConfig("Pendulum-v1", agent_options=a)
        >>> one.difference(TrainConfig("Pendulum-v1", agent_options=b))
        ''
        """
        for name in (*AGENT_FIELDS, *also):
            mine, theirs = _as_stored(getattr(self, name)), _as_stored(getattr(other, name))
            if mine != theirs:
                return f"{name}: got {mine!r}, expected {theirs!r}"
        return ""

    def resolved(self) -> TrainConfig:
        """Return the configuration with the environment's defaults written into `agent_options`."""
        defaults = agent_defaults(self.agent, self.env)
        return replace(self, agent_options={**defaults, **self.agent_options})

    @classmethod
    def measured_at_end(cls, preset: str, **settings: Any) -> TrainConfig:
        """A run for one cell of a table: evaluated at the end only; tiny with "debug"."""
        config = cls(
            eval_every=0,
            picture_every=0,
            checkpoint_every=settings["steps"] // 2,
            device="cpu",
            video=False,
            **settings,
        )
        return config.debug() if preset == "debug" else config

    def debug(self) -> TrainConfig:
        """Return the same run made tiny: it trains, evaluates and saves within seconds."""
        return replace(
            self,
            steps=DEBUG_STEPS,
            eval_every=DEBUG_STEPS // 2,
            eval_episodes=2,
            final_episodes=2,
            picture_every=DEBUG_STEPS // 2,
            checkpoint_every=DEBUG_STEPS // 2,
            agent_options={**AGENTS.load(self.agent).debug_options, **self.agent_options},
            wandb_mode="offline",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data, ready for JSON."""
        data = asdict(self)
        return {**data, "track": list(self.track), "wandb_tags": list(self.wandb_tags)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote; the error for an unknown field names the nearest one."""
        names = [item.name for item in fields(cls)]
        for name in data:
            check_name("config field", name, names)
        for name in ("env", "agent", "density"):
            if name not in data:
                raise ValueError(f"config field {name}: missing, expected a name")
        return cls(**data)


def _as_stored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_stored(item) for key, item in value.items()}
    return [_as_stored(item) for item in value] if isinstance(value, list | tuple) else value


def check_env_id(env_id: str) -> None:
    """Raise a ValueError of one line, naming the nearest id, unless Gymnasium knows `env_id`."""
    try:
        find_spec(env_id)
    except (gymnasium.error.Error, ImportError) as error:
        module, _, name = env_id.rpartition(":")
        near = did_you_mean(name, gymnasium.registry)
        guess = f"; {near}" if near.startswith("did you mean") else ""
        if module and module not in sys.modules:
            raise ValueError(f"env: got {env_id!r}, but {error}") from error
        raise ValueError(f"env: got {env_id!r}, expected a Gymnasium id{guess}") from error


def check_typed_env(env_id: str) -> None:
    """As `check_env_id`, for an id that a user types: the module that it names is imported."""
    if module := env_id.rpartition(":")[0]:
        import_environments(module)
    check_env_id(env_id)


def agent_defaults(agent: str, env: str) -> dict[str, Any]:
    """The arguments that an agent's class sets for an environment, by the longest matching prefix.

    >>> agent_defaults("sac", "vaerl/MultiGoal-v0"), agent_defaults("sac", "Hopper-v5")
    ({'learning_starts': 1000}, {})
    """
    rows = AGENTS.load(agent).env_defaults
    matching = [prefix for prefix in rows if env.startswith(prefix)]
    return dict(rows[max(matching, key=len)]) if matching else {}


def _check_whole(name: str, value: Any, least: int, most: int = MOST) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: got {value!r:.60}, expected a whole number, {least} or more")
    if value > most:
        raise ValueError(f"{name}: got {value}, expected a whole number, {most:,} or less")
