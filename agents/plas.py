"""A policy in the latent space of a cloned decoder (PLAS, Zhou et al. 2020).

    vaerl.agents.PLAS("cvae", "Pendulum-v1").learn(demonstrations)

First a density with latents clones the actions of the data. Then its decoder is frozen, and an
actor learns which latent to decode, by the slope of twin critics: whatever it answers, the action
is one that the data makes likely. B transitions, N critics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from torch import nn

from vaerl.agents.from_data import Fit, Info
from vaerl.agents.offline import Batch, OfflineAgent, td_target
from vaerl.data import Demonstrations
from vaerl.densities.options import check_share
from vaerl.finite import check_loss
from vaerl.policies.critic import LatentPolicy
from vaerl.policies.critic_heads import critic_loss


class PLAS(OfflineAgent):
    """Policy in the latent action space, with the decoder's mean as the action.

    The critics follow y = r + γ (1 − d) min_i Q̄_i(s', a'), a' the slow actor's action; the actor
    minimises −mean Q_1(s, a(z(s, u), s)) over the squashed noise z, with u ~ U[0, 1).

    Args:
        policy: name of a density with latent codes, "MlpPolicy" (the density then comes from
            `policy_kwargs`) or a subclass of `LatentPolicy`.
        cloning: share of the updates that clone, before the decoder is frozen. The decoder of
            earlier training stays frozen when `learn` goes on.
        latent_bound: largest latent, in standard deviations of the prior.
        others: as in `IQL`; `policy_kwargs` are those of `LatentPolicy`.

    Raises:
        ValueError: a density without latent codes; data that does not fit the environment.

    Logged: while cloning train/policy_loss and latent/…; then train/critic_loss,
    train/actor_loss, and train/q (mean).

    >>> from vaerl.data import Demonstrations
    >>> rows = [torch.zeros(9, 3).numpy()], [torch.zeros(8, 1).numpy()]
    >>> PLAS("gaussian", data=Demonstrations.from_arrays(*rows))
    Traceback (most recent call last):
    ValueError: density: got 'gaussian', expected one with latent codes, such as 'cvae': the actor \
answers with a code
    """

    policy: LatentPolicy
    actor_optimizer: torch.optim.Adam
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": LatentPolicy,
        "MultiInputPolicy": LatentPolicy,
    }
    debug_options: ClassVar[Mapping[str, Any]] = {
        **OfflineAgent.debug_options,
        "policy_kwargs": {"net_arch": [16], "critic_arch": [16], "latent_arch": [16]},
    }

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None = None,
        data: Any = None,
        cloning: float = 0.4,
        latent_bound: float = 2.0,
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
        self.cloning = check_share("cloning", cloning)
        self.latent_bound = latent_bound
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

    def _policy_options(self) -> dict[str, Any]:
        return {"latent_bound": self.latent_bound}

    def _optimizers(self) -> dict[str, list[nn.Parameter]]:
        actor = [*self.policy.actor_net.parameters()]
        return {**super()._optimizers(), "actor_optimizer": actor}

    def _fit(self, data: Demonstrations, fresh: bool) -> Fit:
        self.policy.frozen &= not fresh
        return super()._fit(data, fresh)

    def _update(self, batch: Batch, progress: float) -> Info:
        policy = self.policy
        if not policy.frozen:
            if progress < self.cloning:
                return self._clone(batch, None, progress)
            policy.freeze()
        generator = policy.noise.generator(self.device)
        shape = (2, len(batch.rewards))
        u, next_u = torch.rand(shape, generator=generator, device=self.device)
        features = policy.features(batch.observations)
        with torch.no_grad():
            next_features = policy.features(batch.next_observations)
            next_events = policy.act(next_features, next_u, slow=True)
            next_value = policy.q(next_features, next_events, slow=True).amin(0)
        target = td_target(batch.rewards, batch.terminated, next_value, self.gamma)
        q = policy.q(features, batch.events)
        q_loss = check_loss("critic_loss", critic_loss(q.unsqueeze(-1), target.unsqueeze(-1)))
        self.critic_optimizer.zero_grad()
        q_loss.backward()
        self.critic_optimizer.step()

        gained = policy.q(features, policy.act(features, u))[0].mean()
        actor_loss = check_loss("actor_loss", -gained)
        self.actor_optimizer.zero_grad()
        actor_loss.backward(inputs=[*policy.actor_net.parameters()])  # past the frozen decoder
        self.actor_optimizer.step()
        self._follow()
        return {
            "train/critic_loss": q_loss.detach(),
            "train/actor_loss": actor_loss.detach(),
            "train/q": q.detach().mean(),
        }
