"""PPO's rollout and update by the native library: which agents it covers, and the calls.

It covers densities that act through fixed codes; SB3's `PPO.train` is the definition of the update.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import explained_variance
from torch import Tensor, nn

from vaerl.densities.layers import equal_edges
from vaerl.finite import check_loss
from vaerl.native.covered import (
    MAX_BLOCKS,
    MAX_DEPTH,
    Uncovered,
    Untouched,
    check_adam,
    check_tensors,
    layers_of,
)
from vaerl.native.flat import Flat, FlatStruct
from vaerl.native.library import Missing, address, field, fields, load
from vaerl.native.update import NativeUpdate

NOT_FINITE, STOPPED, _ = range(3)  # what became of a minibatch, see ppo.cpp
INFO = ("policy_gradient_loss", "value_loss", "log_prob", "loss", "clip_fraction", "approx_kl")
LIMIT = 1 << 24
"""Most vectors of all codes together, so that no place among them leaves 32 bits."""


class Spec(ctypes.Structure):
    """`Spec` of ppo.cpp."""

    _fields_ = (
        *fields(ctypes.c_int32, "states actions batch codes tanh"),
        *fields(ctypes.c_int32, "trunk_depth"),
        *fields(ctypes.c_int32 * MAX_DEPTH, "trunk"),
        *fields(ctypes.c_int32, "value_depth"),
        *fields(ctypes.c_int32 * MAX_DEPTH, "value"),
        *fields(ctypes.c_int32, "components learned latent_dim hidden blocks"),
        *fields(ctypes.c_float * 4, "action_range prior_range"),
    )


class Call(ctypes.Structure):
    """`Call` of ppo.cpp."""

    _fields_ = (
        *fields(ctypes.c_void_p, "obs actions advantages log_prob values returns rows"),
        *fields(ctypes.c_void_p, "codes edges code_edges middle half uniform normal"),
        *fields(FlatStruct, "flat"),
        *fields(ctypes.c_float, "clip clip_value value_coef largest_norm other_squares largest_kl"),
        *fields(ctypes.c_int32, "normalize"),
        *fields(ctypes.c_void_p, "work info out_actions out_values out_log_prob"),
    )


class NativePPO(NativeUpdate):
    """The native rollout and update of an agent, as long as it covers the agent."""

    def prepare(self, agent: Any, beyond: str = "") -> None:
        """Take over the parameters, or give them back.

        Args:
            beyond: names what only torch's update knows.
        """
        try:
            if beyond:
                raise Uncovered(beyond)
            if self._plan is None or not self._plan.fits(agent):
                self._plan = Plan(agent)
            line = f"update: native, {self._plan.variant}, threads: 1"
        except (Missing, Uncovered) as why:
            line = self.give_up(why)
        self.say(agent, line)

    def train(self, agent: Any) -> bool:
        """SB3's update on the rollout; whether it was native."""
        if self._plan is None:
            return False
        self._plan.train(agent)
        return True


class Plan:
    """Flat memory, workspace and sizes for one agent.

    Raises:
        Missing: no library.
        Uncovered: a part of the agent that it does not know.
    """

    def __init__(self, agent: Any) -> None:
        self.variant, self._library = load()
        if self._library.vaerl_ppo_layout() != ctypes.sizeof(Spec) * 65536 + ctypes.sizeof(Call):
            raise Missing("built from other sources: install vaerl again")
        policy = agent.policy
        self._agent = _parts(agent)
        trunks = getattr(policy, "_trunks", lambda: None)()
        codes = getattr(policy, "codes", None)
        kernel = None if trunks is None or codes is None else policy.density.kernel()
        if trunks is None or codes is None or kernel is None:
            name = getattr(policy, "density_name", type(policy).__name__)
            raise Uncovered(
                f"policy {name} with these options or observations" if codes is not None
                else f"density {name}, which has no codes"
            )  # fmt: skip
        sizes, count = kernel.sizes, len(codes.codes)
        embedded = sizes.get("embedded") or sizes.get("weighted")
        vectors = count * (sizes["hidden"] + 8) * (6 * sizes["blocks"] + 6)
        if embedded or sizes["blocks"] > MAX_BLOCKS or vectors > LIMIT:
            raise Uncovered("these options of the density")
        if policy.squash_output:
            raise Uncovered("squashed actions")
        if type(agent.rollout_buffer) is not RolloutBuffer:
            raise Uncovered(f"a {type(agent.rollout_buffer).__name__}")
        known = (nn.Tanh, nn.ReLU)
        trunk, activation = layers_of(trunks.networks[0], known, closed=True)
        value, other = layers_of(trunks.networks[1], known, closed=False)
        if len(trunk) and len(value) > 1 and other is not activation:
            raise Uncovered("different activations in policy and value")
        activation = activation if len(trunk) else other
        self._normalizer = trunks.normalizer
        self._other = policy.recognition_parameters()
        kernel = kernel.without(self._other)
        below, above = (
            [[p] for layer in layers for p in (layer.weight, layer.bias)]
            for layers in (trunk, value)
        )
        own = [*below, kernel.weights, kernel.biases, kernel.network, *above]
        check_tensors(list(policy.parameters()))
        check_adam(policy.optimizer, own, "policy")
        self._untouched = Untouched([policy], [policy.optimizer])
        if not self._untouched:
            raise Uncovered("hooks")

        self.spec = Spec(
            states=agent.observation_space.shape[0],
            actions=len(policy.box_half),
            batch=1,
            codes=count,
            tanh=activation is nn.Tanh,
            trunk_depth=len(trunk),
            value_depth=len(value) - 1,
            **{k: field(v) for k, v in sizes.items() if hasattr(Spec, k)},
        )
        self.spec.trunk[: len(trunk)] = [layer.out_features for layer in trunk]
        self.spec.value[: len(value) - 1] = [layer.out_features for layer in value[:-1]]
        size = self._sizes(self.spec)[1]
        self.flat = Flat(own, policy.optimizer)
        assert self.flat.size == size, (self.flat.size, size)
        self._edges, self._code_edges = kernel.edges, equal_edges(count)
        self._work = torch.zeros(0, dtype=torch.float32)
        self._specs: dict[int, Spec] = {}

    def release(self) -> None:
        """Give the parameters memory of their own again."""
        self.flat.release()

    def fits(self, agent: Any) -> bool:
        """Whether nothing that matters has changed since."""
        same = all(a is b for a, b in zip(_parts(agent), self._agent, strict=True))
        return same and self.flat.intact and bool(self._untouched)

    def _sizes(self, spec: Spec) -> Any:
        sizes = (ctypes.c_int64 * 2)()
        self._library.vaerl_ppo_sizes(ctypes.byref(spec), sizes)
        return sizes

    def _spec(self, rows: int) -> Spec:
        """The sizes with this number of rows, for which there is memory."""
        if rows not in self._specs:
            self._specs[rows] = spec = Spec.from_buffer_copy(self.spec)
            spec.batch = rows
            if (needed := self._sizes(spec)[0]) > len(self._work):
                self._work = torch.zeros(needed, dtype=torch.float32)
        return self._specs[rows]

    def _call(self, **more: Any) -> Call:
        policy = self._agent[0]
        return Call(
            codes=address(policy.codes.codes),
            edges=address(self._edges),
            code_edges=address(self._code_edges),
            middle=address(policy.box_middle),
            half=address(policy.box_half),
            work=self._work.data_ptr(),
            **more,
        )

    def _seen(self, obs: Tensor) -> Tensor:
        """Observations ``(B, S)`` as the networks see them."""
        return (obs if self._normalizer is None else self._normalizer(obs)).contiguous()

    def act(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Actions ``(B, X)``, values ``(B, 1)`` and log π ``(B,)`` at observations ``(B, S)``.

        The noise is that of torch. None, and no noise drawn, where torch is to find them.
        """
        policy, rows = self._agent[0], len(obs)
        if not (obs.ndim == 2 and rows and self.flat.in_place and self._untouched):
            return None
        spec, seen, noise = self._spec(rows), self._seen(obs.float()), policy.noise
        calls, generator = noise.calls, noise.generator("cpu")
        options: Any = {"generator": generator, "dtype": torch.float32}
        uniform = torch.rand(rows, **options)
        normal = torch.randn(rows, spec.actions, **options)
        shapes = (rows, spec.actions), (rows, 1), (rows,)
        actions, values, log_prob = (torch.empty(s, dtype=torch.float32) for s in shapes)
        call = self._call(
            obs=seen.data_ptr(),
            uniform=uniform.data_ptr(),
            normal=normal.data_ptr(),
            flat=FlatStruct(value=self.flat.value.data_ptr()),
            out_actions=actions.data_ptr(),
            out_values=values.data_ptr(),
            out_log_prob=log_prob.data_ptr(),
        )
        if self._library.vaerl_ppo_act(ctypes.byref(spec), ctypes.byref(call)):
            return actions, values, log_prob
        noise.calls = calls
        return None

    def train(self, agent: Any) -> None:
        """The update of SB3's `PPO.train` on the rollout, a call a minibatch."""
        policy, progress = agent.policy, agent._current_progress_remaining
        policy.set_training_mode(True)
        agent._update_learning_rate(policy.optimizer)
        clip = agent.clip_range(progress)
        clip_value = None if agent.clip_range_vf is None else agent.clip_range_vf(progress)
        settings = {
            "clip": clip,
            "clip_value": -1.0 if clip_value is None else clip_value,
            "value_coef": agent.vf_coef,
            "largest_norm": agent.max_grad_norm,
            "largest_kl": math.inf if agent.target_kl is None else 1.5 * agent.target_kl,
            "normalize": agent.normalize_advantage,
        }
        # SB3 clips these, of the last sleep phase, along with those that it computes.
        others = [p.grad for p in self._other if p.grad is not None]
        squares, shrinkage = sum(float(g.double().square().sum()) for g in others), 1.0
        found: list[Tensor] = []
        for epoch in range(agent.n_epochs):
            minibatches = _minibatches(agent.rollout_buffer, agent.batch_size)
            if epoch == 0:  # from here on the rollout has a row a step
                data = _columns(agent.rollout_buffer)
                data["obs"] = self._seen(torch.from_numpy(data["obs"])).numpy()
            last, done = len(found), NOT_FINITE
            for rows in minibatches:
                done, info = self._step(data, rows, squares, settings)
                found.append(info[:-1])
                if done == STOPPED:
                    break
                self._after(policy.optimizer, done, info)
                shrinkage, squares = shrinkage * float(info[-1]), squares * float(info[-1]) ** 2
            agent._n_updates += 1
            if done == STOPPED:
                if agent.verbose >= 1:
                    kl = f"{float(found[-1][-1]):.2f}"
                    print(f"Early stopping at step {epoch} due to reaching max kl: {kl}")
                break
        for gradient in others:
            gradient.mul_(shrinkage)
        self._log(agent, torch.stack(found).double(), last, clip, clip_value)

    def _after(self, optimizer: torch.optim.Optimizer, done: int, info: Tensor) -> None:
        """What torch is told of a step; where the library has refused it, its optimizer does."""
        if done == NOT_FINITE:
            check_loss("loss", info[INFO.index("loss")])
            self.flat.lend_gradient()
            optimizer.step()
        else:
            self.flat.after_step()

    def _step(
        self,
        data: dict[str, np.ndarray],
        rows: np.ndarray,
        squares: float,
        settings: dict[str, Any],
    ) -> tuple[int, Tensor]:
        """What became of a minibatch, and its `INFO` with what gradients were multiplied by."""
        spec, info = self._spec(len(rows)), torch.zeros(len(INFO) + 1, dtype=torch.float32)
        call = self._call(
            **{name: array.ctypes.data for name, array in data.items()},
            rows=rows.ctypes.data,
            flat=self.flat.before_step(),
            other_squares=squares,
            info=info.data_ptr(),
            **settings,
        )
        return self._library.vaerl_ppo_update(ctypes.byref(spec), ctypes.byref(call)), info

    def _log(
        self, agent: Any, found: Tensor, last: int, clip: float, clip_value: float | None
    ) -> None:
        """What SB3 logs; `last` is the first minibatch of the last epoch."""
        means, buffer = dict(zip(INFO, found.mean(0).tolist(), strict=True)), agent.rollout_buffer
        record = agent.logger.record
        record("train/entropy_loss", means["log_prob"])
        for name in ("policy_gradient_loss", "value_loss", "clip_fraction"):
            record(f"train/{name}", means[name])
        record("train/approx_kl", found[last:, INFO.index("approx_kl")].mean().item())
        record("train/loss", found[-1, INFO.index("loss")].item())
        explained = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        record("train/explained_variance", explained)
        record("train/n_updates", agent._n_updates, exclude="tensorboard")
        record("train/clip_range", clip)
        if clip_value is not None:
            record("train/clip_range_vf", clip_value)


def _minibatches(buffer: RolloutBuffer, size: int) -> list[np.ndarray]:
    """Row numbers of one pass over a rollout, in the order in which SB3 draws them."""
    order: Any = buffer
    order._get_samples = lambda rows, env=None: rows
    try:
        return [np.ascontiguousarray(rows, np.int64) for rows in order.get(size)]
    finally:
        del order._get_samples


def _columns(buffer: RolloutBuffer) -> dict[str, np.ndarray]:
    """What the update reads of a rollout, under the names of `Call`."""
    names = {"obs": "observations", "log_prob": "log_probs"}
    names |= {name: name for name in ("actions", "advantages", "values", "returns")}
    return {
        name: np.ascontiguousarray(getattr(buffer, own), np.float32) for name, own in names.items()
    }


def _parts(agent: Any) -> tuple[Any, ...]:
    """What the flat memory belongs to."""
    names = ("mlp_extractor", "value_net", "density", "codes", "optimizer")
    return agent.policy, *(getattr(agent.policy, name, None) for name in names)
