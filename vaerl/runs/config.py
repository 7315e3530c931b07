"""What a training run is: one frozen record of plain data, checked before anything is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import gymnasium

from vaerl.names import check_name, did_you_mean
from vaerl.track import TRACKERS

WANDB_MODES = ("online", "offline", "disabled")

# Constructor arguments that differ from stable-baselines3's own for an environment: one row a
# family (a prefix of the id), merged under what the caller gives and written out in config.json.
AGENT_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "sac": {
        "vaerl/Bandit40": {"learning_starts": 1000, "gamma": 0.0, "ent_coef": 1.0},
        "vaerl/": {"learning_starts": 1000},
    },
    "ppo": {"vaerl/": {"n_steps": 1024, "ent_coef": 0.01}},
    "mbpo": {"vaerl/": {"learning_starts": 1000}},
}

# What --debug changes: the whole programme, buffers and batches included, in a few seconds.
DEBUG_AGENT: dict[str, dict[str, Any]] = {
    "sac": {"learning_starts": 40, "batch_size": 16, "buffer_size": 1000},
    "ppo": {"n_steps": 64, "batch_size": 32, "n_epochs": 2},
    "mpc": {
        "learning_starts": 40,
        "buffer_size": 1000,
        "train_freq": 40,
        "gradient_steps": 10,
        "batch_size": 16,
        "members": 2,
        "planner_kwargs": {"horizon": 3, "population": 8, "elites": 3, "iterations": 2},
    },
    "mbpo": {
        "learning_starts": 40,
        "batch_size": 16,
        "buffer_size": 1000,
        "members": 2,
        "model_train_freq": 40,
        "fit_kwargs": {"steps": 10},
        "rollout_batch_size": 100,
    },
}
DEBUG_STEPS = 128


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    >>> TrainConfig(env="Pendulum-v1", steps=1000).out
    'runs/sac-cvae-Pendulum-v1-s0'
    """

    env: str
    """Gymnasium id of the environment, such as "HalfCheetah-v5" or "vaerl/MultiGoal-v0"."""
    agent: str = "sac"
    """Algorithm by name (`vaerl list agents`)."""
    density: str = "cvae"
    """Conditional density of the policy by name (`vaerl list densities`)."""
    steps: int = 100_000
    """Environment steps, over all copies of the environment together."""
    seed: int = 0
    """Seed from which those of the agent, of every copy and of every evaluation are spawned."""
    out: str = ""
    """Folder of the run; empty means runs/<agent>-<density>-<env>-s<seed>."""
    n_envs: int = 1
    """Copies of the environment that are stepped side by side."""
    subprocess: bool = False
    """Whether each copy lives in a process of its own."""
    density_options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the density, such as {"latent_dims": [8]}."""
    dynamics: str = ""
    """Density of the learned model, for mbpo ("cvae" unless given) and mpc, whose only density it
    is."""
    dynamics_options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of that density."""
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the algorithm's constructor, such as {"learning_rate": 1e-3}."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the environment, handed to gymnasium.make."""
    eval_every: int | None = None
    """Steps between two evaluations; 0 for the final one only; None for a tenth of `steps`."""
    eval_episodes: int | None = None
    """Episodes of each evaluation during training; None for as many as the environment wants."""
    final_episodes: int | None = None
    """Episodes of the evaluation at the end; None for as many as the environment wants."""
    picture_every: int | None = None
    """Steps between two pictures of the policy; 0 for none; None for a fifth of `steps`."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints; 0 for the last one only; None for a quarter of `steps`."""
    keep_replay: bool = True
    """Whether checkpoints hold the replay buffer, without which an off-policy run starts cold."""
    video: bool = True
    """Whether an episode is recorded at the end, where the environment can draw itself."""
    device: str = "auto"
    """Torch device: "auto", "cpu", "cuda" or "cuda:0"."""
    track: tuple[str, ...] = ()
    """Trackers beside metrics.jsonl, which is always written: "tensorboard", "wandb"."""
    wandb_project: str = "vaerl"
    """Project that Weights & Biases files the run under."""
    wandb_mode: str = "online"
    """"online" (falls to offline by itself where no server answers), "offline" or "disabled"."""

    def __post_init__(self) -> None:
        """Fill what depends on other fields and check every value."""
        for name in ("density_options", "dynamics_options", "agent_options", "env_options"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        self._settle_dynamics()
        object.__setattr__(self, "track", tuple(dict.fromkeys(self.track)))
        for name, least in {"steps": 1, "n_envs": 1, "seed": 0}.items():
            _check_whole(name, getattr(self, name), least)
        for name in ("eval_episodes", "final_episodes"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1)
        for name, parts in (("eval_every", 10), ("picture_every", 5), ("checkpoint_every", 4)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, max(1, self.steps // parts))
            _check_whole(name, getattr(self, name), 0)
        for name in ("env", "agent", "density"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} {getattr(self, name)!r} must be a name")
        for tracker in self.track:
            TRACKERS.check(tracker, "track")
        check_name("wandb_mode", self.wandb_mode, WANDB_MODES)
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device {self.device!r} must be auto, cpu, cuda or cuda:<number>")
        if not self.out:
            env = self.env.split("/")[-1]
            densities = [self.density]
            if self.dynamics and self.agent != "mpc":  # mpc has one density, that of its model
                densities.append(self.dynamics)
            name = "-".join([self.agent, *densities, env, f"s{self.seed}"])
            object.__setattr__(self, "out", str(Path("runs") / name))

    def _settle_dynamics(self) -> None:
        """Let mpc's density and that of its model be one; refuse a model that nobody learns."""
        given = self.dynamics or self.dynamics_options
        if self.agent == "mpc":
            object.__setattr__(self, "dynamics", self.dynamics or self.density)
            object.__setattr__(self, "density", self.dynamics)
            options = {**self.density_options, **self.dynamics_options}
            object.__setattr__(self, "density_options", options)
            object.__setattr__(self, "dynamics_options", dict(options))
        elif self.agent == "mbpo":
            object.__setattr__(self, "dynamics", self.dynamics or "cvae")
        elif given:
            raise ValueError(
                f"dynamics: got {given!r} with agent {self.agent!r}, "
                "which learns no model; mbpo and mpc do"
            )

    def resolved(self) -> TrainConfig:
        """Return the configuration with the environment's defaults written into `agent_options`."""
        return replace(
            self, agent_options={**agent_defaults(self.agent, self.env), **self.agent_options}
        )

    @classmethod
    def measured_at_end(cls, preset: str, **settings: Any) -> TrainConfig:
        """A run that is one cell of a table: nothing is looked at on the way; tiny with "debug"."""
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
            agent_options={**DEBUG_AGENT.get(self.agent, {}), **self.agent_options},
            wandb_mode="offline",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data, ready for JSON."""
        return {**asdict(self), "track": list(self.track)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote; an unknown field is an error that names the nearest one."""
        names = [item.name for item in fields(cls)]
        for name in data:
            check_name("config field", name, names)
        if "env" not in data:
            raise ValueError("config field 'env' is missing; it must be a Gymnasium id")
        return cls(**{**data, "track": tuple(data.get("track", ()))})


def check_env_id(env_id: str) -> None:
    """Raise a ValueError of one line, naming the nearest id, unless Gymnasium knows `env_id`."""
    try:
        gymnasium.spec(env_id)
    except (gymnasium.error.Error, ImportError) as error:
        near = did_you_mean(env_id, gymnasium.registry)
        raise ValueError(f"env {env_id!r} is not a Gymnasium id; {near}") from error


def agent_defaults(agent: str, env: str) -> dict[str, Any]:
    """Return the constructor arguments that our small tasks want, the longest matching prefix.

    >>> agent_defaults("sac", "vaerl/MultiGoal-v0"), agent_defaults("sac", "Hopper-v5")
    ({'learning_starts': 1000}, {})
    """
    rows = AGENT_DEFAULTS.get(agent, {})
    matching = [prefix for prefix in rows if env.startswith(prefix)]
    return dict(rows[max(matching, key=len)]) if matching else {}


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} {value!r} must be a whole number, {least} or more")
