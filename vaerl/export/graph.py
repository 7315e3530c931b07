"""A policy as two ONNX models: a decision from observation and noise, and the deterministic one.

Everything between the environment's observation and its action is inside: the statistics of
VecNormalize, the policy's own normalisation, images turned to channels first, the scale of actions.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from gymnasium import spaces
from onnx.utils import Extractor
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_normalize,
    unwrap_vec_wrapper,
)
from torch import Tensor, nn
from torch.distributions import Distribution

from vaerl.export.noise import Draw, Recorder, Tape, layout_of

WHOLE = "observation"
"""Name of an observation that has no parts."""
NOISE, ACTIONS = "noise", "actions"


def parts_of(space: spaces.Space) -> dict[str, spaces.Space]:
    """The parts of an observation space, by the name of their input."""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {WHOLE: space}


class Normalise(nn.Module):
    """The observations of VecNormalize, computed in float64 as it does."""

    def __init__(self, wrapper: VecNormalize) -> None:
        super().__init__()
        moments: Any = wrapper.obs_rms
        self.moments = {WHOLE: moments} if not isinstance(moments, dict) else moments
        self.keys = [*self.moments] if wrapper.norm_obs_keys is None else wrapper.norm_obs_keys
        self.clip, self.epsilon = wrapper.clip_obs, wrapper.epsilon

    def forward(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each part that has moments, as float32."""
        return {key: self._one(key, x) if key in self.keys else x for key, x in parts.items()}

    def _one(self, key: str, x: Tensor) -> Tensor:
        mean, scale = (
            torch.as_tensor(number, dtype=torch.float64)
            for number in (
                self.moments[key].mean,
                np.sqrt(self.moments[key].var + self.epsilon),
            )
        )
        return ((x.double() - mean) / scale).clamp(-self.clip, self.clip).float()


class Graph(nn.Module):
    """Observations and noise to a drawn and a deterministic decision, each ``(B, T, *shape)``.

    Args:
        policy: a policy over a density.
        env: whose observations it takes; its wrappers are part of the graph.
    """

    def __init__(self, policy: Any, env: VecEnv) -> None:
        super().__init__()
        self.policy = policy.to_trace()
        self.rhythm = self.policy.rhythm
        self.space = env.unwrapped.observation_space
        wrapper = unwrap_vec_normalize(env)
        normalises = wrapper is not None and wrapper.norm_obs
        self.normalise = Normalise(wrapper) if normalises else None  # type: ignore[arg-type]
        turned: Any = unwrap_vec_wrapper(env, VecTransposeImage)
        turns = turned is not None and not turned.skip
        self.turned = (turned.image_space_keys or [WHOLE]) if turns else []
        self.fixed: Tensor
        fixed = Recorder(torch.Generator().manual_seed(self.policy.fixed_seed or 0))
        with torch.no_grad():
            self.layout: list[Draw] = layout_of(
                lambda rows, noise: self.decide(self.example(rows), noise, False)
            )
            self.decide(self.example(1), fixed, True)
        numbers = [drawn.flatten() for drawn in fixed.draws]
        self.register_buffer("fixed", torch.cat([torch.zeros(0), *numbers]))
        self.noise_size = sum(draw.width for draw in self.layout)

    def example(self, rows: int) -> dict[str, Tensor]:
        """Observations of zeros."""
        history = () if self.rhythm.history == 1 else (self.rhythm.history,)
        return {
            key: torch.as_tensor(np.zeros((rows, *history, *(part.shape or ())), part.dtype))
            for key, part in parts_of(self.space).items()
        }

    def decide(self, parts: dict[str, Tensor], noise: Any, deterministic: bool) -> Tensor:
        """A decision about raw observations, by this noise."""
        parts = dict(parts) if self.normalise is None else self.normalise(parts)
        for key in self.turned:
            parts[key] = parts[key].movedim(-1, -3)
        observations = parts if isinstance(self.space, spaces.Dict) else parts[WHOLE]
        return self.policy.decision(observations, noise, deterministic)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Parts of the observation in their order, then the noise ``(B, N)`` if N > 0."""
        names = [*parts_of(self.space)]
        parts = dict(zip(names, inputs, strict=False))
        rows = inputs[0].shape[0]
        noise = inputs[-1] if self.noise_size else torch.zeros(rows, 0)
        fixed = None
        if len(self.fixed):
            fixed = Tape(self.fixed.expand(rows, -1), self.layout)
        drawn = self.decide(parts, Tape(noise, self.layout), False)
        return drawn, self.decide(parts, fixed, True)

    def models(self) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """The drawn and the deterministic decision as ONNX, for batches of any size."""
        example = self.example(3)
        inputs = [*example.values()]
        names = [*example]
        if self.noise_size:
            inputs.append(torch.full((3, self.noise_size), 0.5))
            names.append(NOISE)
        rows = torch.export.Dim("B", min=1)
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                self.eval(),
                tuple(inputs),
                dynamo=True,
                input_names=names,
                output_names=["drawn", "best"],
                dynamic_shapes=(tuple({0: rows} for _ in inputs),),
                external_data=False,
                verbose=False,
            )
        assert program is not None
        whole = Extractor(program.model_proto)
        drawn, best = (
            whole.extract_model(given, [output])
            for given, output in ((names, "drawn"), ([*example], "best"))
        )
        for model, output in ((drawn, "drawn"), (best, "best")):
            _tidy(model, output, ACTIONS)
        return drawn, best


def _tidy(model: onnx.ModelProto, name: str, to: str) -> None:
    """Rename the output, and drop the exporter's notes, which hold paths of this machine."""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in model.graph.node:
        node.output[:] = [to if output == name else output for output in node.output]
        node.input[:] = [to if given == name else given for given in node.input]
    model.graph.output[0].name = to


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of the exporter, and without torch's checks of distributions."""
    validate = Distribution._validate_args
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Distribution.set_default_validate_args(validate)
        logger.setLevel(level)
