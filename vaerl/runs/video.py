"""A video of a policy: mp4 if imageio-ffmpeg is installed, otherwise gif."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from vaerl.disk import files
from vaerl.disk.errors import one_line
from vaerl.envs.making import is_mujoco, make_env
from vaerl.names import did_you_mean
from vaerl.runs.config import check_env_id
from vaerl.runs.evaluate import Predictor, own_randomness
from vaerl.runs.monitor import Monitor
from vaerl.runs.skeleton import draw_scene
from vaerl.threads import limit_threads

Frame = NDArray[np.uint8]
Camera = Callable[[], Frame]

FASTEST = 30  # frames per second; faster simulations skip frames
MOST_FRAMES = 240  # a frame by OpenGL on a CPU takes a tenth of a second
MOST_PIXELS = 2**21  # of a frame: 1920 x 1080
GL_BACKENDS = ("egl", "osmesa", "glfw")
FORMATS = ("mp4", "gif")


def video_format() -> str:
    """Return "mp4" if an encoder is installed, else "gif"."""
    return "mp4" if importlib.util.find_spec("imageio_ffmpeg") else "gif"


@limit_threads()
def record(
    agent: Predictor,
    env_id: str,
    path: Path,
    *,
    seed: int,
    episodes: int = 1,
    deterministic: bool = False,
    env_options: Mapping[str, Any] | None = None,
    most_frames: int = MOST_FRAMES,
    side_view: bool = False,
    check: Callable[[], None] = lambda: None,
    on_frame: Callable[[int], None] = lambda count: None,
) -> Path:
    """Record episodes to `path` (.mp4 or .gif) and return it; random streams are restored.

    Without OpenGL, a MuJoCo environment is drawn as a side view of its limbs. `side_view` always
    does so, which is quick and keeps OpenGL out of a training process. `check` is called before
    every step, and ends the recording by raising; `on_frame` with the number of frames so far.

    Raises:
        ValueError: an environment that cannot be rendered, or an unknown format.
        EnvironmentFault: the environment failed.
    """
    if path.suffix.lstrip(".") not in FORMATS:
        raise ValueError(f"video {path.name!r}: {did_you_mean(path.suffix, FORMATS)}")
    files.check_file("out", path)
    filmed = _filmed(env_id, dict(env_options or {}), side_view)
    with own_randomness(agent, seed), filmed as (env, camera):
        fps = float(env.metadata.get("render_fps") or FASTEST)
        skip = max(1, round(fps / FASTEST))
        frames = _frames(agent, env, camera, seed, episodes, deterministic, skip, check)

        def told() -> Iterator[Frame]:
            for count, frame in enumerate(islice(_alike(frames, env_id), most_frames), start=1):
                yield frame
                on_frame(count)

        return write_video(told(), path, fps / skip)


def write_video(frames: Iterable[Frame], path: Path, fps: float) -> Path:
    """Encode frames (H, W, 3) in a temporary folder, then write the whole file at once."""
    import imageio.v2 as imageio

    options: dict[str, Any] = {"duration": 1000.0 / fps, "loop": 0}
    if path.suffix == ".mp4":
        options = {"fps": fps, "codec": "libx264", "macro_block_size": 2, "quality": 7}
        options["ffmpeg_log_level"] = "error"
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        writer: Any
        with imageio.get_writer(draft, **options) as writer:
            for frame in frames:
                writer.append_data(frame)
        files.make_directory(path.parent)
        return files.write_bytes(path, draft.read_bytes())


def _alike(frames: Iterator[Frame], env_id: str) -> Iterator[Frame]:
    """Frames that make a film, large ones thinned out; ValueError where sizes differ or are 0."""
    size: tuple[int, ...] | None = None
    for frame in frames:
        size = frame.shape if size is None else size
        if frame.shape != size or 0 in size:
            raise ValueError(
                f"env {env_id!r}: render gave a picture of shape {frame.shape}, expected "
                + ("pixels" if frame.shape == size else f"{size} as before")
            )
        step = math.ceil(math.sqrt(frame.shape[0] * frame.shape[1] / MOST_PIXELS))
        yield frame[::step, ::step]


def _frames(
    agent: Predictor,
    env: gymnasium.Env,
    camera: Camera,
    seed: int,
    episodes: int,
    deterministic: bool,
    skip: int,
    check: Callable[[], None],
) -> Iterator[Frame]:
    """Yield every `skip`-th frame, and the last one of each episode."""
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        yield camera()
        over, step = False, 0
        state: Any = None
        while not over:
            check()
            carried: dict[str, Any] = {} if state is None else {"state": state}
            action, state = agent.predict(observation, deterministic=deterministic, **carried)
            observation, _, terminated, truncated, _ = env.step(action)
            over, step = terminated or truncated, step + 1
            if over or step % skip == 0:
                yield camera()


@contextmanager
def _filmed(
    env_id: str, options: dict[str, Any], side_view: bool
) -> Iterator[tuple[gymnasium.Env, Camera]]:
    """Make the environment together with a function that draws its present state."""
    check_env_id(env_id)
    if is_mujoco(env_id) and (side_view or not choose_gl_backend()):
        env = Monitor(make_env(env_id, **options), env_id)
        bare: Any = env.unwrapped
        camera: Camera = lambda: draw_scene(bare.model, bare.data)  # noqa: E731
    else:
        try:
            env = Monitor(make_env(env_id, render_mode="rgb_array", **options), env_id)
            env.reset()
            shape = np.shape(env.render())
        except (gymnasium.error.Error, ImportError, TypeError) as error:
            raise ValueError(f"env {env_id!r} cannot draw itself: {one_line(error)}") from error
        if len(shape) != 3:
            raise ValueError(f"env {env_id!r} cannot draw itself: render gave no picture")
        camera = lambda: np.asarray(env.render(), dtype=np.uint8)  # noqa: E731
    try:
        yield env, camera
    finally:
        env.close()


@lru_cache(maxsize=1)
def choose_gl_backend() -> str:
    """Return a value of MUJOCO_GL that works here and set it; empty where none does.

    Each candidate is tried in its own process: one that fails leaves a broken library behind.
    """
    given = os.environ.get("MUJOCO_GL")
    for backend in (given,) if given else GL_BACKENDS:
        code = f"from mujoco.{backend} import GLContext; GLContext(8, 8).make_current()"
        environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        if backend == "glfw":
            environment.pop("PYOPENGL_PLATFORM")
        try:
            tried = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, timeout=30
            )
        except subprocess.TimeoutExpired:
            continue
        if tried.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return backend
    return ""
