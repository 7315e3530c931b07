"""What the agents for offline reinforcement learning share: batches, optimizers, targets.

B transitions, N critics, X numbers of a standardised action.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from vaerl.agents.from_data import DataAgent, Fit, Info
from vaerl.data import Demonstrations
from vaerl.data.transitions import transitions
from vaerl.densities.options import check_at_least_zero, check_share
from vaerl.finite import check_loss
from vaerl.policies.critic import CriticPolicy
from vaerl.policies.rows import flatten_rows


class Batch(NamedTuple):
    """Transitions as tensors: raw observations ``(B, D)``, standardised actions ``(B, X)``."""

    observations: Tensor
    events: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor


def td_target(rewards: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """y = r + γ (1 − d) V(s'), ``(B,)``; d is 1 where the task ended, not where it was cut.

    >>> td_target(torch.ones(2), torch.tensor([0.0, 1.0]), torch.full((2,), 4.0), 0.5)
    tensor([3., 1.])
    """
    return rewards + gamma * (1.0 - terminated) * next_value


class OfflineAgent(DataAgent):
    """An agent that learns from transitions with rewards and steps no environment."""

    policy: CriticPolicy
    policy_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    default_steps = 50_000
    debug_options: ClassVar[Mapping[str, Any]] = {
        "batch_size": 16,
        "policy_kwargs": {"net_arch": [16], "critic_arch": [16]},
    }

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None = None,
        data: Any = None,
        learning_rate: float | Callable[[float], float] = 3e-4,
        batch_size: int = 256,
        gamma: float = 0.99,
        tau: float = 0.005,
        kl_warmup: float = 0.1,
        max_grad_norm: float = 10.0,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.gamma, self.tau = check_share("gamma", gamma), check_share("tau", tau)
        self.kl_warmup = check_share("kl_warmup", kl_warmup)
        self.max_grad_norm = check_at_least_zero("max_grad_norm", max_grad_norm)
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

    @abstractmethod
    def _update(self, batch: Batch, progress: float) -> Info:
        """Take one update; numbers for the log, 0-d and without gradient."""

    def _optimizers(self) -> dict[str, list[torch.nn.Parameter]]:
        """Names of the optimizers and what they step."""
        return {
            "policy_optimizer": self.policy.density_parameters(),
            "critic_optimizer": self.policy.critic_parameters(),
        }

    def _make_optimizers(self) -> None:
        for name, parameters in self._optimizers().items():
            setattr(self, name, torch.optim.Adam(parameters, self.lr_schedule(1.0), fused=True))

    def _fit(self, data: Demonstrations, fresh: bool) -> Fit:
        return _Updates(self, data, fresh)

    def _clone(self, batch: Batch, weights: Tensor | None, progress: float) -> Info:
        """One step of the density on −w log p(a | s), or on its bound; w is 1 if None."""
        generator = self.policy.noise.generator(self.device)
        losses, info = self.policy.density.loss(
            self.policy.context(batch.observations),
            batch.events,
            diagnostics=False,
            kl_weight=min(1.0, progress / self.kl_warmup) if self.kl_warmup else 1.0,
            generator=generator,
        )
        loss = check_loss("policy_loss", (losses if weights is None else weights * losses).mean())
        self.policy_optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.policy.density_parameters(), self.max_grad_norm)
        self.policy_optimizer.step()
        return {"train/policy_loss": loss.detach()} | {
            f"latent/{key}": number for key, number in info.items()
        }

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the slow copies towards what they follow, by the share `tau`."""
        for slow, fast in self.policy.slow_and_fast():
            torch._foreach_lerp_([*slow.parameters()], [*fast.parameters()], self.tau)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", *self._optimizers()], []


class _Updates:
    """One call of `learn` on transitions."""

    def __init__(self, agent: OfflineAgent, data: Demonstrations, fresh: bool) -> None:
        self.agent = agent
        found = transitions(data, flatten_rows)
        s, a, *rest = (torch.as_tensor(array, device=agent.device) for array in found)
        if fresh:
            agent.policy.standardise(s, a)
        self.columns = (s, agent.policy.events(a.unsqueeze(1)), *rest)

    def update(self, total: int) -> Info:
        agent = self.agent
        progress = agent.num_timesteps / total
        rate = agent.lr_schedule(1.0 - progress)
        for name in agent._optimizers():
            for group in getattr(agent, name).param_groups:
                group["lr"] = rate
        generator = agent.policy.noise.generator(agent.device)
        count = len(self.columns[0])
        rows = torch.randint(count, (agent.batch_size,), generator=generator, device=agent.device)
        info = agent._update(Batch(*(column[rows] for column in self.columns)), progress)
        return info | {"train/learning_rate": torch.tensor(rate)}

    def over(self, total: int) -> bool:
        return False

    def finish(self) -> None:
        """The policy acts as it is."""
