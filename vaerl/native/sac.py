"""SAC's update by the native library: which agents it covers, and the call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaerl.densities.kernel import Kernel
from vaerl.densities.latent import ROWS_AT_ONCE
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
from vaerl.native.critics import RENORM, critics_of
from vaerl.native.flat import Flat, FlatStruct, flat_size
from vaerl.native.library import BF16, Missing, address, field, fields, load
from vaerl.native.update import NativeUpdate

NOTHING, _, ALL = range(3)  # what the library has updated, see sac.cpp
MAX_THREADS = 2
INFO = ("critic_loss", "actor_loss", "entropy_lower", "ent_coef", "ent_coef_loss")


class Spec(ctypes.Structure):
    """`Spec` of head.h."""

    _fields_ = (
        *fields(ctypes.c_int32, "states actions batch critics threads half kind"),
        *fields(ctypes.c_int32, "trunk_depth"),
        *fields(ctypes.c_int32 * MAX_DEPTH, "trunk"),
        *fields(ctypes.c_int32, "critic_depth"),
        *fields(ctypes.c_int32 * MAX_DEPTH, "critic"),
        *fields(ctypes.c_int32, "latent components learned latent_dim hidden blocks paths"),
        *fields(ctypes.c_float * 4, "action_range latent_range prior_range"),
        *fields(ctypes.c_float, "share"),
    )


class NoiseStruct(ctypes.Structure):
    """`Noise` of head.h."""

    _fields_ = fields(ctypes.c_void_p, "uniform prior action posterior share")


class Call(ctypes.Structure):
    """`Call` of sac.cpp."""

    _fields_ = (
        *fields(ctypes.c_void_p, "obs next_obs actions rewards dones discounts weights edges"),
        *fields(NoiseStruct * 2, "noise"),
        *fields(FlatStruct, "actor critic temperature"),
        *fields(ctypes.c_void_p, "target statistics"),
        *fields(ctypes.c_float, "gamma target_entropy uniform_entropy alpha"),
        *fields(ctypes.c_int32, "follow renormalise"),
        *fields(ctypes.c_void_p, "work info"),
    )


class NativeSAC(NativeUpdate):
    """The native update of an agent, as long as it covers the agent.

    Called with the agent and a batch it takes one update (of the critics alone unless the others
    `follow`) and returns its losses, or does nothing and returns None. `weights` ``(B, 1)`` are
    factors on the critics' losses; `beyond` names what only the agent's own update knows.
    """

    def __init__(self) -> None:
        super().__init__()
        self._refused: tuple[int, str] | None = None  # for this batch size and this reason

    def __call__(
        self,
        agent: Any,
        batch: Any,
        follow: bool,
        weights: Tensor | None = None,
        beyond: str = "",
    ) -> dict[str, Tensor] | None:
        self.prepare(agent, len(batch.rewards), beyond)
        return None if self._plan is None else self._plan.update(agent, batch, follow, weights)

    def move_target(self, tau: float) -> bool:
        """Move the targets towards the critics, if the update was native; whether it was."""
        if self._plan is not None:
            self._plan.move_target(tau)
        return self._plan is not None

    def prepare(self, agent: Any, rows: int, beyond: str) -> None:
        """Take over the parameters, or give them back."""
        if (rows, beyond) == self._refused:
            return
        if not beyond and self._plan is not None and self._plan.fits(agent, rows):
            return
        bf16 = agent.matmul_precision == BF16
        wanted = "matmul_precision='bf16' has no effect" if bf16 else ""
        try:
            if beyond:
                raise Uncovered(beyond)
            self._plan, self._refused = Plan(agent, rows), None
            spec = self._plan.spec
            line = f"update: native, {self._plan.variant}, threads: {spec.threads}"
            if wanted:
                line += ", products: bf16" if spec.half else f"; {wanted}: no AVX512-BF16 here"
        except (Missing, Uncovered) as why:
            self._refused = (rows, beyond)
            if wanted and agent._critics.bfloat16:
                wanted = "products of critics: bf16"
            line = self.give_up(why) + (f"; {wanted}" if wanted else "")
        self.say(agent, line)


class Plan:
    """Flat memory, workspace and sizes for the updates of one agent with one batch size.

    Raises:
        Missing: no library.
        Uncovered: a part of the agent that it does not know.
    """

    def __init__(self, agent: Any, rows: int) -> None:
        self.variant, self._library = load()
        if self._library.vaerl_sac_layout() != ctypes.sizeof(Spec) * 65536 + ctypes.sizeof(Call):
            raise Missing("built from other sources: install vaerl again")
        self._agent = _parts(agent)
        actor, critic = self._agent[:2]
        networks = tuple(dict.fromkeys(self._agent[:3]))  # without a target, two
        kernel, trunk, self._normalizer = _actor(actor, rows)
        critics, *targets = (critics_of(each, self._normalizer) for each in networks[1:])
        if [target.shape for target in targets] != [critics.shape] * (critics.kind != RENORM):
            raise Uncovered("a target network that is missing, or of another form than the critic")
        check_tensors([p for network in networks for p in network.parameters()])
        check_tensors([p for each in (critics, *targets) for group in each.groups for p in group])
        learned = agent.ent_coef_optimizer is not None
        below = [[p] for layer in trunk for p in (layer.weight, layer.bias)]
        own = [*below, kernel.weights, kernel.biases, kernel.network]
        check_adam(actor.optimizer, own, "actor")
        check_adam(critic.optimizer, critics.groups, "critic")
        if learned:
            check_adam(agent.ent_coef_optimizer, [[agent.log_ent_coef]], "temperature")
        self._untouched = Untouched(networks, [o for o in self._agent[3:] if o is not None])
        if not self._untouched:
            raise Uncovered("hooks")

        self._made_for = self._setting(agent)
        self.spec = Spec(
            states=agent.observation_space.shape[0],
            actions=agent.action_space.shape[0],
            batch=rows,
            critics=critics.number,
            kind=critics.kind,
            threads=self._made_for[0],
            half=self._made_for[1] == BF16 and self._library.vaerl_has_bfloat16(),
            paths=actor.num_auxiliary if "latent" in kernel.sizes else 0,
            **{k: field(v) for k, v in kernel.sizes.items() if hasattr(Spec, k)},
        )
        hidden = {"trunk": [layer.out_features for layer in trunk], "critic": critics.widths}
        for name, widths in hidden.items():
            setattr(self.spec, f"{name}_depth", len(widths))
            getattr(self.spec, name)[: len(widths)] = widths
        sizes = (ctypes.c_int64 * 4)()
        self._library.vaerl_sac_sizes(ctypes.byref(self.spec), sizes)
        if [flat_size(each) for each in (own, critics.groups, critics.statistics)] != sizes[1:]:
            raise Uncovered("layers of other sizes")

        self.actor = Flat(own, actor.optimizer)
        self.critic = Flat(critics.groups, critic.optimizer)
        self.target = Flat(targets[0].groups) if targets else None
        self._critics, self._statistics = critics, Flat(critics.statistics)
        self.temperature: Flat | None = None
        if learned:
            self.temperature = Flat([[agent.log_ent_coef]], agent.ent_coef_optimizer)
        self._kernel, self._work = kernel, _floats(sizes[0])
        self._noise = [self._noise_memory(self.spec) for _ in range(2)]
        self._noise_addresses = _addresses(self._noise)
        self._parts_acting = actor.latent_pi, actor.density
        self._acting: _Acting | None = None

    def release(self) -> None:
        """Give the parameters memory of their own again."""
        for flat in self._flats():
            flat.release()

    def _flats(self) -> list[Flat]:
        parts = self.actor, self.critic, self.target, self.temperature, self._statistics
        return [flat for flat in parts if flat is not None]

    def fits(self, agent: Any, rows: int) -> bool:
        """Whether nothing that matters has changed since."""
        return (
            rows == self.spec.batch
            and self._setting(agent) == self._made_for
            and all(a is b for a, b in zip(_parts(agent), self._agent, strict=True))
            and all(flat.intact for flat in self._flats())
            and self._statistics.holds(self._critics.statistics)
            and bool(self._untouched)
        )

    @staticmethod
    def _setting(agent: Any) -> tuple[int, str]:
        """Number of threads and precision."""
        return min(torch.get_num_threads(), MAX_THREADS), agent.matmul_precision

    def _noise_memory(self, s: Spec) -> dict[str, Tensor]:
        """What one pass draws, in torch's order: see `LatentValue.rsample_and_log_prob`."""
        size, paths = (s.latent_dim, 1 + (s.paths if s.share else 0)) if s.latent else (0, 1)
        memory = {}
        if self._kernel.edges is not None:
            memory["uniform"] = _floats(paths, s.batch)
        if s.latent:
            memory["prior"] = _floats(paths, s.batch, size)
        memory["action"] = _floats(s.batch, s.actions)
        if s.paths:
            memory["posterior"] = _floats(s.paths, s.batch, size)
            if s.share:
                memory["share"] = _floats(s.paths, s.batch)
        return memory

    def act(self, obs: np.ndarray) -> np.ndarray | None:
        """Drawn actions in (−1, 1) ``(B, X)`` at observations ``(B, S)``, for `DensityActor.act`.

        None where torch is to find them.
        """
        actor, rows = self._agent[0], len(obs)
        parts = actor.latent_pi, actor.density
        same = all(a is b for a, b in zip(parts, self._parts_acting, strict=True))
        if not (
            same and rows and obs.dtype.kind in "fiu" and self.actor.in_place and self._untouched
        ):
            return None
        if self._acting is None or self._acting.spec.batch != rows:
            self._acting = _Acting(self, rows)
        spec, call, noise = self._acting.spec, self._acting.call, actor.noise
        seen = torch.from_numpy(np.ascontiguousarray(obs, np.float32))
        seen = seen if self._normalizer is None else self._normalizer(seen)
        call.obs, calls = seen.data_ptr(), noise.calls
        _draw(self._acting.noise, noise.generator("cpu"))
        actions = np.empty((rows, spec.actions), np.float32)
        to = ctypes.c_void_p(actions.ctypes.data)
        if self._library.vaerl_sac_act(ctypes.byref(spec), ctypes.byref(call), to):
            return actions
        noise.calls = calls
        return None

    def move_target(self, tau: float) -> None:
        """target ← target + τ (source − target)."""
        assert self.target is not None, "a critic without a target network"
        target, source = self.target.value, self.critic.value
        self._library.vaerl_follow(target.data_ptr(), source.data_ptr(), tau, len(source))
        torch.autograd.graph.increment_version(self.target.tensors)

    def update(
        self, agent: Any, batch: Any, follow: bool, weights: Tensor | None
    ) -> dict[str, Tensor] | None:
        """One update; None, and nothing changed, where torch is to raise its error."""
        noise = agent.actor.noise
        calls = noise.calls
        for memory in self._noise[0 if follow else 1 :]:
            _draw(memory, noise.generator("cpu"))
        names = ("observations", "next_observations", "actions", "rewards", "dones", "discounts")
        given = [*(getattr(batch, name) for name in names), weights]
        if self._normalizer is not None:
            given[:2] = [self._normalizer(obs.float()) for obs in given[:2]]
        columns = [None if part is None else part.float().contiguous() for part in given]
        info = _floats(len(INFO))
        learned = self.temperature is not None
        call = Call(
            *map(address, columns),
            address(self._kernel.edges),
            self._noise_addresses,
            self.actor.before_step(),
            self.critic.before_step(),
            self.temperature.before_step() if self.temperature else FlatStruct(),
            None if self.target is None else self.target.value.data_ptr(),
            self._statistics.value.data_ptr(),
            agent.gamma,
            float(agent.target_entropy) if learned else 0.0,
            agent._uniform_entropy,
            float(agent._alpha()),
            follow,
            self._critics.renormalises,
            self._work.data_ptr(),
            info.data_ptr(),
        )
        done = self._library.vaerl_sac_update(ctypes.byref(self.spec), ctypes.byref(call))
        if done == NOTHING:
            noise.calls = calls
            return None
        for flat in (self.critic, self.actor, self.temperature)[: None if done == ALL else 1]:
            if flat is not None:
                flat.after_step()
        torch.autograd.graph.increment_version(self._statistics.tensors)
        for norm in self._critics.norms:
            norm.steps += 1
        if not follow:
            return {name: info[INFO.index(name)] for name in ("ent_coef", "critic_loss")}
        if done != ALL:  # the actor's loss or gradient is not finite: torch's step refuses it
            check_loss("actor_loss", info[1])
            self.actor.lend_gradient()
            agent.actor.optimizer.step()
        return dict(zip(INFO if learned else INFO[:-1], info, strict=False))


class _Acting:
    """Sizes and memory for drawing actions at some number of observations."""

    def __init__(self, plan: Plan, rows: int) -> None:
        self.spec = Spec.from_buffer_copy(plan.spec)
        self.spec.batch, self.spec.threads, self.spec.half = rows, 1, 0
        self.spec.paths, self.spec.share = 0, 0.0
        sizes = (ctypes.c_int64 * 4)()
        plan._library.vaerl_sac_sizes(ctypes.byref(self.spec), sizes)
        self.noise, self._work = plan._noise_memory(self.spec), _floats(sizes[0])
        self.call = Call(
            edges=address(plan._kernel.edges),
            noise=_addresses([self.noise] * 2),
            actor=FlatStruct(value=plan.actor.value.data_ptr()),
            follow=1,
            work=self._work.data_ptr(),
        )


def _addresses(memories: Sequence[dict[str, Tensor]]) -> Any:
    """Of the noise of two passes."""
    return (NoiseStruct * 2)(
        *(NoiseStruct(**{k: v.data_ptr() for k, v in memory.items()}) for memory in memories)
    )


def _floats(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32)


def _draw(memory: dict[str, Tensor], generator: torch.Generator) -> None:
    for name, numbers in memory.items():
        sampler = torch.rand if name in ("uniform", "share") else torch.randn
        sampler(numbers.shape, generator=generator, out=numbers)


def _parts(agent: Any) -> tuple[Any, ...]:
    """What the flat memory belongs to."""
    actor, critic = agent.actor, agent.critic
    optimizers = (actor.optimizer, critic.optimizer, agent.ent_coef_optimizer)
    return actor, critic, agent.critic_target, *optimizers


def _actor(actor: Any, rows: int) -> tuple[Kernel, list[nn.Linear], nn.Module | None]:
    """The density, the trunk and what observations pass first."""
    trunks = getattr(actor, "_trunks", lambda: None)()
    kernel = None if trunks is None else actor.density.kernel()
    if trunks is None or kernel is None:
        name = getattr(actor, "density_name", type(actor).__name__)
        raise Uncovered(f"actor {name} with these options or observations")
    sizes = kernel.sizes
    beyond = sizes.get("embedded") or sizes.get("weighted") or sizes.get("share", 0.0) == 1.0
    if beyond or sizes.get("blocks", 0) > MAX_BLOCKS:
        raise Uncovered("these options of the density")
    if actor.num_auxiliary * rows > ROWS_AT_ONCE:
        raise Uncovered(f"{actor.num_auxiliary} paths for {rows} states")
    return kernel, layers_of(trunks.networks[0], (nn.ReLU,), closed=True)[0], trunks.normalizer
