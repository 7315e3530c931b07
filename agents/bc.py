"""Behaviour cloning over any density: the policy is fitted to demonstrations.

    vaerl.agents.BC("cvae", "vaerl/Avoiding-v0").learn(demonstrations)

It minimises −log p(a_t, …, a_{t+T−1} | s_t), or a density's bound on it, over all windows of the
demonstrations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from vaerl.agents.from_data import DataAgent, Info
from vaerl.data import Demonstrations
from vaerl.densities.options import check_at_least_zero, check_positive, check_share
from vaerl.finite import check_loss
from vaerl.policies.chunk import ChunkPolicy
from vaerl.policies.rows import flatten_rows

LAST_RATE = 0.02
"""Share of the learning rate at the end of the cosine."""
EVALUATIONS = 20
"""Looks at the validation episodes in a run."""
ROWS = 2048
"""Windows of the validation episodes looked at."""


class BC(DataAgent):
    """Behaviour cloning with chunks of actions.

    Args:
        policy: a density's name, "MlpPolicy" (the density then comes from `policy_kwargs`) or a
            subclass of `ChunkPolicy`.
        env: environment or Gymnasium id that the policy is evaluated on. None takes the spaces of
            the demonstrations.
        data: demonstrations, or a source for `vaerl.data.load_demonstrations`; may also be given to
            `learn`.
        learning_rate: of Adam; a number falls along a cosine to 2 % of itself, a function of the
            remaining progress is taken as in SB3.
        batch_size: windows in an update.
        chunk, execute, history, latent, latent_temperature, decoder_noise: see `ChunkPolicy`.
        stride: steps between the starts of the windows of an episode. Equal to `execute`, training
            sees the moments at which an undisturbed episode decides, and no others.
        observation_noise: standard deviation of the noise on the observations of a batch, in
            standard deviations of each input. It keeps the policy from copying its own last moves.
        kl_warmup: share of training over which the cost of the latents rises from 0 to 1.
        max_grad_norm: gradients are clipped to this norm.
        average: decay of the running average of the weights that acts and is saved; 0 for none.
        validation: share of the episodes held out to watch the loss.
        patience: looks at the held-out episodes, 20 a run, without a lower loss after which
            training stops; the weights of the best look are kept then. None trains to the end.
        policy_kwargs: further arguments of `ChunkPolicy`.
        stats_window_size, tensorboard_log, verbose, seed, device, _init_setup_model: as in SB3.

    Raises:
        ValueError: demonstrations that do not fit the environment, or an option that is not legal.

    Logged: train/loss, train/validation_loss (nats a chunk, standardised), train/learning_rate, and
    the density's diagnostics under latent/….

    >>> demonstrations = Demonstrations.from_arrays([np.zeros((9, 3))], [np.zeros((8, 1))])
    >>> agent = BC("gaussian", data=demonstrations, chunk=2).learn(10)
    >>> agent.predict(np.zeros(3))[0].shape
    (1,)
    """

    carried: ClassVar[tuple[str, ...]] = ("best",)
    debug_options: ClassVar[Mapping[str, Any]] = {"batch_size": 16, "chunk": 2}
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ChunkPolicy,
        "MultiInputPolicy": ChunkPolicy,
    }

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None = None,
        data: Any = None,
        learning_rate: float | Callable[[float], float] = 2e-3,
        batch_size: int = 128,
        chunk: int = 8,
        execute: int | None = None,
        history: int = 4,
        latent: str = "decision",
        latent_temperature: float = 1.0,
        decoder_noise: bool = False,
        stride: int = 1,
        observation_noise: float = 0.02,
        kl_warmup: float = 0.3,
        max_grad_norm: float = 10.0,
        average: float = 0.99,
        validation: float = 0.1,
        patience: int | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.chunk, self.execute, self.history = chunk, execute, history
        self.latent, self.decoder_noise = latent, decoder_noise
        self.latent_temperature = latent_temperature
        self.stride = check_positive("stride", stride)
        self.observation_noise = check_at_least_zero("observation_noise", observation_noise)
        self.max_grad_norm = check_at_least_zero("max_grad_norm", max_grad_norm)
        self.kl_warmup = check_share("kl_warmup", kl_warmup)
        self.average = check_share("average", average)
        self.validation = check_share("validation", validation)
        self.patience = None if patience is None else check_positive("patience", patience)
        self.best = Best(self.patience)
        super().__init__(
            policy,
            env,
            data,
            learning_rate,
            batch_size,
            policy_kwargs,
            _init_setup_model,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
        )
        if self._data is not None:  # before a run writes anything
            self._check_chunk(self._data)

    def _check_chunk(self, data: Demonstrations) -> None:
        longest = max(map(len, data))
        if self.chunk > longest:
            raise ValueError(
                f"chunk: got {self.chunk}, expected at most {longest}, the steps of the longest "
                "episode"
            )

    def _policy_options(self) -> dict[str, Any]:
        names = "chunk", "execute", "history", "latent", "latent_temperature", "decoder_noise"
        return {name: getattr(self, name) for name in names}

    def _make_optimizers(self) -> None:
        self.learner = copy.deepcopy(self.policy) if self.average else self.policy
        rate = self.lr_schedule(1.0)
        self.optimizer = torch.optim.Adam(self.learner.parameters(), lr=rate, fused=True)

    def _fit(self, data: Demonstrations, fresh: bool) -> _Cloning:
        self._check_chunk(data)
        return _Cloning(self, data, fresh)

    def _update(self, windows: Windows, progress: float) -> Info:
        rate = self.lr_schedule(1.0 - progress)
        if not callable(self.learning_rate):
            rate *= LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        learner = self.learner.train()
        generator = learner.noise.generator(self.device)
        observations, events = windows.batch(self.batch_size, generator)
        noise = self.observation_noise * torch.randn(
            observations.shape, generator=generator, device=self.device
        )
        warmup = min(1.0, progress / self.kl_warmup) if self.kl_warmup else 1.0
        losses, info = learner.density.loss(
            learner.context(observations, noise),
            events,
            diagnostics=False,
            kl_weight=warmup,
            generator=generator,
        )
        loss = check_loss("loss", losses.mean())
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(learner.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return {"train/loss": loss.detach(), "train/learning_rate": torch.tensor(rate)} | {
            f"latent/{key}": number for key, number in info.items()
        }

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running average of the weights towards the learner's."""
        if self.learner is not self.policy:
            share = 1.0 - self.average if self.num_timesteps else 1.0
            acting, learned = (
                [w.data for w in policy.parameters()] for policy in (self.policy, self.learner)
            )
            torch._foreach_lerp_(acting, learned, share)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed everything as SB3 does, and the noise of the policy and of the learner."""
        super().set_random_seed(seed)
        if seed is not None and getattr(self, "learner", None) is not None:
            self.learner.noise.reseed(seed + 1)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "best"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", *(["learner"] if self.average else []), "optimizer"], []


class _Cloning:
    """One call of `learn`: its windows, and a look at the unseen ones now and then."""

    def __init__(self, agent: BC, data: Demonstrations, fresh: bool) -> None:
        self.agent = agent
        training, held_out = data.split(agent.validation, seed=agent.seed or 0)
        self.windows = self._windows(training)
        self.unseen = None if held_out is None else self._windows(held_out)
        if fresh or agent.best.patience != agent.patience:
            agent.best = Best(agent.patience)
        if fresh:
            for policy in (agent.policy, agent.learner):
                self.windows.standardise(policy)

    def _windows(self, data: Demonstrations) -> Windows:
        return Windows(data, self.agent.policy, self.agent.device, self.agent.stride)

    def update(self, total: int) -> Info:
        info = self.agent._update(self.windows, self.agent.num_timesteps / total)
        self.agent._follow()
        return info

    def over(self, total: int) -> bool:
        agent = self.agent
        if agent.num_timesteps % max(1, total // EVALUATIONS) or self.unseen is None:
            return False
        agent.logger.record("train/validation_loss", loss := self.unseen.loss(agent.policy))
        return agent.best.over(loss, agent.policy)

    def finish(self) -> None:
        if self.agent.best.state is not None:
            self.agent.policy.load_state_dict(self.agent.best.state)


class Windows:
    """Windows of demonstrations, at every `stride`-th step: H observations and T actions after.

    Before the first observation and after the last action, that one is repeated.
    """

    def __init__(
        self,
        demonstrations: Demonstrations,
        policy: ChunkPolicy,
        device: torch.device,
        stride: int = 1,
    ) -> None:
        observations, actions, looks, plans = [], [], [], []
        start = 0
        for episode in demonstrations:
            steps = len(episode)
            time = np.arange(0, steps, stride)[:, None]
            looks.append(start + (time + np.arange(1 - policy.history, 1)).clip(min=0))
            plans.append(start + (time + np.arange(policy.chunk)).clip(max=steps - 1))
            observations.append(flatten_rows(episode.observations)[:steps])
            actions.append(episode.actions.reshape(steps, -1).astype(np.float32))
            start += steps
        self.observations, self.actions, self.looks, self.plans = (
            torch.as_tensor(np.concatenate(parts), device=device)
            for parts in (observations, actions, looks, plans)
        )
        self.policy = policy

    def __len__(self) -> int:
        return len(self.looks)

    def standardise(self, policy: ChunkPolicy) -> None:
        """Let the policy standardise by these windows."""
        policy.standardise(self.observations[self.looks].flatten(1), self.actions)

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs ``(B, H · D)`` and standardised chunks ``(B, T · A)`` of random windows."""
        device = self.looks.device
        return self.rows(torch.randint(len(self), (size,), generator=generator, device=device))

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The windows of those numbers."""
        return (
            self.observations[self.looks[index]].flatten(1),
            self.policy.events(self.actions[self.plans[index]]),
        )

    @torch.no_grad()
    def loss(self, policy: ChunkPolicy) -> float:
        """Mean loss of a policy over at most `ROWS` windows, evenly spread, in nats a chunk."""
        index = torch.linspace(0, len(self) - 1, min(ROWS, len(self))).long()
        observations, events = self.rows(index.to(self.looks.device))
        generator = torch.Generator(self.looks.device).manual_seed(0)
        losses, _ = policy.density.loss(
            policy.context(observations), events, diagnostics=False, generator=generator
        )
        return float(losses.mean())


class Best:
    """The weights of the lowest loss, once training has gone `patience` looks without a lower."""

    def __init__(self, patience: int | None) -> None:
        self.patience, self.lowest, self.looks = patience, math.inf, 0
        self.state: dict[str, Any] | None = None
        self._candidate: dict[str, Any] | None = None

    def over(self, loss: float, policy: ChunkPolicy) -> bool:
        if self.patience is None:
            return False
        if loss < self.lowest:
            self.lowest, self.looks = loss, 0
            self._candidate = copy.deepcopy(policy.state_dict())
        else:
            self.looks += 1
        if self.looks >= self.patience:
            self.state = self._candidate
        return self.state is not None
