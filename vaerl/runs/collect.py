"""What `vaerl collect` is asked for: one frozen record of plain data, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaerl.disk import files
from vaerl.runs.config import check_env_id
from vaerl.runs.directory import RunDirectory

MINARI = "minari:"


@dataclass(frozen=True)
class CollectConfig:
    """Demonstrations to record.

    >>> CollectConfig(env="vaerl/Avoiding-v0", expert=True, episodes=480, out="data").driver
    'expert'
    """

    env: str = ""
    """Gymnasium id; with --run and --data it may be left out."""
    expert: bool = False
    """The environment's own expert."""
    random: bool = False
    """Actions drawn from the action space."""
    run: str = ""
    """The policy at the last checkpoint of a run."""
    sb3: str = ""
    """The weights in a zip file of Stable-Baselines3; the next three options say of which
    network."""
    function: str = ""
    """A Python function, MODULE:FUNCTION, from observation to action. The module is imported."""
    data: str = ""
    """Nobody: demonstrations that are there are read, chosen and written."""
    agent: str = "sb3-sac"
    """With --sb3: sb3-sac, sb3-ppo, sb3-a2c, sb3-td3, sb3-ddpg or an agent of vaerl."""
    policy: str = "MlpPolicy"
    """With --sb3: MlpPolicy, MultiInputPolicy or the name of a density."""
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    """With --sb3: argument of the agent, such as policy_kwargs={"net_arch":[64,64]}."""
    deterministic: bool = False
    """With --run and --sb3: take the best action instead of drawing one."""
    episodes: int | None = None
    """Episodes to keep; with --data all by default."""
    seed: int = 0
    """Seed of the episodes; with --data, of the choice."""
    successes_only: bool = False
    """Keep only episodes that end in success."""
    noise: tuple[float, ...] = ()
    """Standard deviation of noise on the actions that are carried out, one number or one for each
    dimension. Recorded actions have none. Default: what the environment asks for its expert."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Argument of the environment, passed to gymnasium.make."""
    out: str = ""
    """Folder for npz files; with --run the folder episodes in the run by default."""
    to: str = ""
    """Minari data set to write, minari:NAME, such as minari:me/demos-v0."""

    def __post_init__(self) -> None:
        """Check that the options go together and fill in what depends on others."""
        if self.run:
            run = RunDirectory.open(self.run)
            env, own = self.env or run.config.get("env"), run.config.get("env_options", {})
            if not (isinstance(env, str) and isinstance(own, dict)):
                raise ValueError(
                    f"{run.config_path}: got env {env!r:.60} and env_options {own!r:.60}, expected "
                    "a Gymnasium id and an object"
                )
            object.__setattr__(self, "env", env)
            object.__setattr__(self, "env_options", {**own, **self.env_options})
            if not (self.out or self.to):
                object.__setattr__(self, "out", str(run.episodes_path))
        if not self.driver or not (self.env or self.data):
            raise ValueError("env: got none, expected a Gymnasium id (vaerl list envs)")
        if self.env:
            check_env_id(self.env)
        if self.episodes is None and not self.data:
            raise ValueError("episodes: got none, expected how many to record")
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes: got {self.episodes}, expected a whole number, 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}, expected a whole number, 0 or more")
        if self.data and self.noise:
            raise ValueError(f"noise: got {list(self.noise)} with --data, expected none")
        if not (self.out or self.to):
            raise ValueError("out: got none, expected a folder, or --to minari:NAME")
        if self.to and not self.to.removeprefix(MINARI) != self.to:
            raise ValueError(f"to: got {self.to!r}, expected minari:NAME")
        if self.out:
            files.check_folder("out", self.out)

    @property
    def driver(self) -> str:
        """Name of the option that says who drives.

        Raises ValueError unless it is one.
        """
        names = ("expert", "random", "run", "sb3", "function", "data")
        given = [name for name in names if getattr(self, name)]
        if len(given) != 1:
            got = " and ".join(f"--{name}" for name in given) or "none"
            legal = ", ".join(f"--{name}" for name in names)
            raise ValueError(f"driver: got {got}, expected one of {legal}")
        return given[0]

    @property
    def origin(self) -> dict[str, Any]:
        """Where the data comes from, for its provenance."""
        value = getattr(self, self.driver)
        is_path = self.driver in ("run", "sb3") or (value and Path(str(value)).exists())
        source = str(Path(value).absolute()) if is_path else value
        return {
            "driver": self.driver,
            **({} if source is True else {self.driver: source}),
            **({"deterministic": self.deterministic} if self.driver in ("run", "sb3") else {}),
            "successes_only": self.successes_only,
        }
