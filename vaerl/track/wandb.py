"""Weights & Biases, through its own client.

The client sends from its own process, so that training waits for the server only at the start,
`init_timeout` seconds at most. If the server does not answer, the run continues offline and one
line says how to upload it later. Values are logged against `env_steps`, the declared axis.

A resumed training continues the same W&B run. The client may lose the last rows before a kill, and
what it writes offline begins anew with each process. So a resumed run first logs again the rows of
metrics.jsonl that the server may not have: the newest offline folder holds the whole curve.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from vaerl.disk import files, jsonio
from vaerl.disk.errors import one_line
from vaerl.disk.reading import read_file
from vaerl.names import check_name
from vaerl.track import media
from vaerl.track.base import Media, Tracker, plain, to_stderr
from vaerl.track.rows import LIMIT, read_rows

MODES = ("online", "offline", "disabled")  # each uses the network less than the one before
AXIS = "env_steps"
SHAPE = (
    *("n_envs", "density_options", "dynamics", "dynamics_options", "agent_options"),
    *("env_options", "data", "from_"),
)
"""Fields of a configuration, besides its seed, that agents, densities and tasks differ by."""
_ENV_MODES = {"run": "online", "shared": "online", "dryrun": "offline"}


class WandbTracker(Tracker):
    """A W&B run whose files are in `directory`/wandb.

    Args:
        directory: usually that of the run.
        mode: "online", "offline" or "disabled"; the environment variable WANDB_MODE can restrict
            it further, but not relax it.
        init_timeout: seconds to wait for the server before the run continues offline.
        finish_timeout: seconds that `finish` may wait for the upload.
        say: receives the few lines that are printed, on stderr by default.
        options: of `wandb.init`, such as project, name, group and tags.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        mode: str = "online",
        init_timeout: float = 10.0,
        finish_timeout: float = 30.0,
        say: Callable[[str], None] = to_stderr,
        **options: Any,
    ) -> None:
        check_name("mode", mode, MODES)
        self.directory = Path(directory)
        self.mode = stricter_mode(mode, os.environ.get("WANDB_MODE", ""))
        """The requested mode, then the mode of the run."""
        self._options: dict[str, Any] = {"project": "vaerl", **options}
        self._init_timeout, self._finish_timeout = init_timeout, finish_timeout
        self._say = say
        self._run: Any = None
        self._wandb: Any = None
        self.sync_directory = self.directory / "wandb"
        """The folder that `wandb sync` uploads."""
        self._failed = False

    @classmethod
    def for_run(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        """A run in the project, group and mode of `config`, by default beside those of other seeds.

        Its id is kept in `folder`/wandb, so that a resumed training continues the same W&B run.
        """
        place = folder / "wandb" / "run-id"
        if not place.exists():
            files.make_directory(place.parent)
            files.write_text(place, secrets.token_hex(4))
        return cls(
            folder,
            project=config["wandb_project"],
            name=folder.resolve().name,
            group=config["wandb_group"] or group_of(config),
            tags=list(config["wandb_tags"]),
            mode=config["wandb_mode"],
            id=read_file(place, 64, root=folder).decode("ascii"),
            resume="allow",
        )

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin online if the server answers, otherwise offline.

        Raises RuntimeError, in one line, if neither is possible.
        """
        if self.mode == "disabled" or self._run is not None:
            return
        # W&B's report of its own errors would keep the process waiting at exit for its server.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        causes = []
        for mode in dict.fromkeys((self.mode, "offline")):
            try:
                self._run = self._begin(mode, config)
            except (Exception, SystemExit) as error:  # W&B raises SystemExit without an API key
                causes.append(_first_line(error))
                continue
            self.mode, self.sync_directory = mode, Path(self._run.settings.sync_dir)
            self._say(f"W&B: {'; '.join([*causes, self._address()])}")
            self._repeat()
            return
        raise RuntimeError("; ".join(dict.fromkeys(causes)))

    def _begin(self, mode: Any, config: Mapping[str, Any]) -> Any:
        import wandb

        self._wandb = wandb
        wandb.setup(wandb.Settings(silent=True))  # and no question for a key on the terminal
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            init_timeout=self._init_timeout,
            finish_timeout=self._finish_timeout,
            finish_timeout_raises=True,
        )
        run = wandb.init(
            **self._options,
            dir=str(self.directory),
            mode=mode,
            config=dict(config),
            reinit="create_new",  # other runs of this program continue
            settings=settings,
        )
        run.define_metric(AXIS)
        run.define_metric("*", step_metric=AXIS)
        return run

    def _repeat(self) -> None:
        """Log the rows of the run so far that the server may not have."""
        if self._options.get("resume") is None:
            return
        known = self._run.summary.get(AXIS, 0) if self.mode == "online" else 0
        place = self.directory / "metrics.jsonl"
        rows = read_rows(read_file(place, LIMIT), place.name).rows if place.exists() else []
        for row in rows:
            values = {key: row[key] for key in row if key not in ("global_step", "time")}
            if row["global_step"] >= known:
                self._send(values, row["global_step"])

    def _address(self) -> str:
        upload = f"upload later with: wandb sync {self.sync_directory}"
        return self._run.url if self.mode == "online" else f"offline, {upload}"

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Numbers and texts, and arrays as histograms."""
        if self._run is not None:
            row = {key: plain(value) for key, value in values.items()}
            for key, value in row.items():
                if isinstance(value, np.ndarray):
                    row[key] = self._wandb.Histogram(value.ravel().tolist())
            self._send({key: value for key, value in row.items() if value is not None}, step)

    def image(self, key: str, picture: Media, step: int) -> None:
        """A picture, from its file or its pixels."""
        if self._run is not None:
            self._send({key: self._wandb.Image(media.pixels(picture, key))}, step)

    def video(self, key: str, video: Media, step: int) -> None:
        """A video: its file, or its frames as a GIF."""
        if self._run is not None:
            film: Any
            if isinstance(video, np.ndarray):
                kind, film = "gif", io.BytesIO(media.gif_bytes(media.frames(video, key)))
            else:
                film, kind = os.fspath(video), Path(video).suffix.lstrip(".")
            self._send({key: self._wandb.Video(film, format=kind)}, step)

    def keep(self, name: str, kind: str, paths: Mapping[str, Path]) -> None:
        """An artifact NAME-ID of files, each under a name of its own."""
        if self._run is not None:
            artifact = self._wandb.Artifact(f"{name}-{self._run.id}", kind)
            for at, path in paths.items():
                artifact.add_file(str(path), name=at)
            self._run.log_artifact(artifact)

    def alert(self, title: str, text: str) -> None:
        """An alert, as the user's account sends them; the run then ends as failed."""
        self._failed = True
        if self._run is not None:
            self._run.alert(title, text, level="ERROR")

    def _send(self, row: Mapping[str, Any], step: int) -> None:
        self._run.log({**row, AXIS: int(step)})

    def finish(self) -> None:
        """Upload the rest.

        Raises RuntimeError, with the command that uploads it later, after `finish_timeout` seconds.
        """
        if self._run is None:
            return
        upload = f"upload the rest with: wandb sync {self.sync_directory}"
        run, self._run = self._run, None
        try:
            run.finish(exit_code=int(self._failed))
        except (Exception, SystemExit) as error:
            raise RuntimeError(f"{_first_line(error)}; {upload}") from error


def group_of(config: Mapping[str, Any]) -> str:
    """AGENT-DENSITY-ENV, with a digest of all that shapes the training, but the seed, if given.

    >>> config = {"agent": "sac", "density": "cvae", "env": "Hopper-v5", "n_envs": 1}
    >>> group_of(config), group_of({**config, "n_envs": 4})
    ('sac-cvae-Hopper-v5', 'sac-cvae-Hopper-v5-4f6e')
    """
    name = f"{config['agent']}-{config['density']}-{config['env']}"
    shape = {key: config[key] for key in SHAPE if config.get(key) not in ("", {}, None)}
    if shape == {"n_envs": 1}:
        return name
    return f"{name}-{hashlib.sha256(jsonio.dumps(shape).encode()).hexdigest()[:4]}"


def stricter_mode(mode: str, environment: str) -> str:
    """`mode`, or that of the variable WANDB_MODE if it uses the network less.

    >>> stricter_mode("online", "dryrun"), stricter_mode("offline", "online")
    ('offline', 'offline')
    """
    wish = _ENV_MODES.get(environment, environment)
    return max(mode, wish, key=MODES.index) if wish in MODES else mode


def _first_line(error: BaseException) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return one_line(first, 160).rstrip(".")
