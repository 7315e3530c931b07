"""Implicit Q-learning (Kostrikov et al. 2022) over any density: learns from data with rewards.

    vaerl.agents.IQL("cvae", "Pendulum-v1").learn(demonstrations)

V is an upper expectile of Q over the actions of the data, so no action outside of them is ever
asked for; the policy is fitted to these actions, weighted by how much better than V they are.
B transitions, N critics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from vaerl.agents.from_data import Info
from vaerl.agents.offline import Batch, OfflineAgent, td_target
from vaerl.densities.options import check_at_least_zero, check_share
from vaerl.finite import check_loss
from vaerl.policies.critic import CriticPolicy
from vaerl.policies.critic_heads import critic_loss


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """mean_B |τ − 1(u < 0)| u² of u = Q − V: least where V is the τ-expectile of Q.

    >>> expectile_loss(torch.tensor([2.0, -2.0]), 0.75)
    tensor(2.)
    """
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()


def advantage_weights(advantage: Tensor, beta: float, most: float) -> Tensor:
    """min(exp(β A), `most`), ``(B,)``, without gradient."""
    return torch.exp(beta * advantage.detach()).clamp(max=most)


class IQL(OfflineAgent):
    """Implicit Q-learning.

    It minimises mean |τ − 1(Q̄ < V)| (Q̄ − V)² over V, with Q̄ the lowest of the slow critics,
    ½ Σ_i mean (Q_i − r − γ (1 − d) V(s'))² over the critics, and min(exp(β (Q̄ − V)), w) times
    −log p(a | s), or a density's bound on it, over the policy.

    Args:
        policy: a density's name, "MlpPolicy" (the density then comes from `policy_kwargs`) or a
            subclass of `CriticPolicy`.
        env: environment or Gymnasium id that the policy is evaluated on. None takes the spaces of
            the data.
        data: demonstrations with rewards, or a source for `vaerl.data.load_demonstrations`; may
            also be given to `learn`.
        expectile: τ in [0, 1]; 0.5 values the policy of the data, higher ones its best actions.
        beta: β, in one over the unit of the reward; 0 clones the data.
        max_weight: w.
        learning_rate, batch_size: of Adam, and transitions in an update.
        gamma: discount γ. The value of the last observation counts unless the task ended there.
        tau: share by which the slow critics follow in an update.
        kl_warmup: share of training over which the cost of latents rises from 0 to 1.
        max_grad_norm: the gradient of the policy is clipped to this norm.
        policy_kwargs: further arguments of `CriticPolicy`.
        stats_window_size, tensorboard_log, verbose, seed, device, _init_setup_model: as in SB3.

    Raises:
        ValueError: data that does not fit the environment, or an option that is not legal.

    Logged: train/value_loss, train/critic_loss, train/policy_loss, train/value (mean V),
    train/advantage and train/weight (means), and the density's diagnostics under latent/….

    >>> from vaerl.data import Demonstrations
    >>> rows = [torch.zeros(9, 3).numpy()], [torch.zeros(8, 1).numpy()]
    >>> agent = IQL("gaussian", data=Demonstrations.from_arrays(*rows)).learn(5)
    >>> agent.predict(torch.zeros(3).numpy())[0].shape
    (1,)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": CriticPolicy,
        "MultiInputPolicy": CriticPolicy,
    }

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None = None,
        data: Any = None,
        expectile: float = 0.9,
        beta: float = 3.0,
        max_weight: float = 100.0,
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
        self.expectile = check_share("expectile", expectile)
        self.beta = check_at_least_zero("beta", beta)
        self.max_weight = check_at_least_zero("max_weight", max_weight)
        super().__init__(
            policy,
            env,
            data,
            learning_rate,
            batch_size,
            gamma,
            tau,
            kl_warmup,
            max_grad_norm,
            policy_kwargs,
            stats_window_size,
            tensorboard_log,
            verbose,
            seed,
            device,
            _init_setup_model,
        )

    def _update(self, batch: Batch, progress: float) -> Info:
        advantage, info = self._judge(batch)
        return info | self._improve(batch, advantage, progress)

    def _judge(self, batch: Batch) -> tuple[Tensor, Info]:
        """One step of critics and value; the advantages ``(B,)`` before it."""
        policy = self.policy
        features = policy.features(batch.observations)
        with torch.no_grad():
            best = policy.q(features, batch.events, slow=True).amin(0)
            next_value = policy.value(policy.features(batch.next_observations))
        target = td_target(batch.rewards, batch.terminated, next_value, self.gamma)
        value = policy.value(features)
        value_loss = check_loss("value_loss", expectile_loss(best - value, self.expectile))
        q = policy.q(features, batch.events)
        q_loss = check_loss("critic_loss", critic_loss(q.unsqueeze(-1), target.unsqueeze(-1)))
        self.critic_optimizer.zero_grad()
        (value_loss + q_loss).backward()
        self.critic_optimizer.step()
        self._follow()
        advantage = (best - value).detach()
        return advantage, {
            "train/value_loss": value_loss.detach(),
            "train/critic_loss": q_loss.detach(),
            "train/value": value.detach().mean(),
            "train/advantage": advantage.mean(),
        }

    def _improve(self, batch: Batch, advantage: Tensor, progress: float) -> Info:
        """One step of the policy."""
        weights = advantage_weights(advantage, self.beta, self.max_weight)
        return self._clone(batch, weights, progress) | {"train/weight": weights.mean()}
