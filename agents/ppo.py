"""Proximal policy optimisation over any density: SB3's algorithm, with the latents kept in order.

    vaerl.agents.PPO("cvae", env).learn(50_000)

A latent density acts through codes that stay fixed for a rollout and the updates on it, so log π
is exact and the ratio starts at 1. The policy gradient does not reach the recognition network; a
short sleep phase after each update fits it to the policy's own samples, which is what the bounds
and diagnostics rest on.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from vaerl.agents.common import DensityAgent, check_env, resolve_policy, signature_of
from vaerl.densities import ConditionalDensity
from vaerl.densities.options import check_positive
from vaerl.policies import ActorCriticPolicy

ROWS = 256
"""Observations of a rollout on which the ratio at the start and the latents are looked at."""


def sleep_loss(
    density: ConditionalDensity, context: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """mean U_0 over own samples: the sleep phase of wake-sleep (Hinton et al. 1995).

    U_0 = log p(x, z_0 | c) − log r(z_0 | x, c) with the generating path z_0 and the defensive
    proposal r. Own paths are held fixed, so its gradient is that of KL(p(z | x, c) ‖ r), which
    makes the recognition network cover the posterior.
    """
    value = density(context.detach())
    with torch.no_grad():
        x, path = value.rsample_with_latents((), generator)
    upper = value.log_prob_bounds(x, 0, path, generator).upper
    loss = upper.mean()
    return loss, {"recognition_loss": loss.detach()}


class PPO(DensityAgent, SB3PPO):
    """`stable_baselines3.PPO` over a density.

    Args:
        policy: a density's name ("cvae", "gaussian", "mixture", "flow"), an alias of SB3 or a
            policy class.
        recognition_steps: updates of the recognition network after each training phase; 0 leaves
            it as it is.
        recognition_learning_rate: of Adam over the recognition network.
        others: as in SB3; `target_kl` works with every density, since log π is exact.

    Raises:
        ValueError: an action space that is no finite float Box, an unknown policy, gSDE.

    Logged beside SB3's: train/latent_kl_floor (max |ratio − 1| before the update, 0 up to
    rounding), train/recognition_loss (nats), latent/bound_gap (mean U_k − L_k, nats),
    latent/kl_layer_l (nats), latent/active_units_l, latent/ess_ratio.

    >>> PPO("cvae", "Pendulum-v1").policy.density.name
    'cvae'
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticPolicy,
        "MultiInputPolicy": ActorCriticPolicy,
    }

    @signature_of(SB3PPO)
    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *args: Any,
        policy_kwargs: dict[str, Any] | None = None,
        recognition_steps: int = 16,
        recognition_learning_rate: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        self.recognition_steps = check_positive("recognition_steps", recognition_steps, at_least=0)
        if not recognition_learning_rate > 0.0:
            raise ValueError(
                f"recognition_learning_rate: got {recognition_learning_rate!r}, "
                "expected a positive number"
            )
        self.recognition_learning_rate = recognition_learning_rate
        policy, policy_kwargs = resolve_policy(policy, policy_kwargs, self.policy_aliases)
        if "latent_hold" in policy_kwargs:
            raise ValueError(
                f"latent_hold: got {policy_kwargs['latent_hold']!r}, expected none: "
                "PPO draws among codes that stay fixed for a rollout; vaerl.agents.SAC can hold one"
            )
        kwargs["policy_kwargs"] = policy_kwargs
        super().__init__(policy, check_env(env), *args, **kwargs)  # type: ignore[arg-type]

    def _setup_model(self) -> None:
        super()._setup_model()
        parameters: list[nn.Parameter] = getattr(self.policy, "recognition_parameters", list)()
        self.recognition_optimizer = (
            torch.optim.Adam(parameters, lr=self.recognition_learning_rate, fused=True)
            if parameters
            else None
        )

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        own = [] if self.recognition_optimizer is None else ["recognition_optimizer"]
        return [*names, *own], variables

    def train(self) -> None:
        """SB3's update on the rollout, then the sleep phase and a look at the latents."""
        obs, actions, old_log_prob = self._rows()
        if hasattr(self._head, "density"):
            with torch.no_grad():
                log_prob = self.policy.get_distribution(obs).log_prob(actions)
                floor = (torch.exp(log_prob - old_log_prob) - 1.0).abs().max()
            self.logger.record("train/latent_kl_floor", floor.item())
        super().train()
        if self.recognition_optimizer is not None:
            self._sleep()
            self._log_latents(obs)

    def _rows(self) -> tuple[Any, Tensor, Tensor]:
        """Observations, actions and log π of the rollout's first steps: ROWS rows, or one step."""
        buffer = self.rollout_buffer
        steps = max(1, min(buffer.buffer_size, ROWS // self.n_envs))

        def rows(array: np.ndarray) -> np.ndarray:
            return array[:steps].reshape(steps * self.n_envs, *array.shape[2:])

        assert not buffer.generator_ready, "a rollout is looked at before SB3 flattens it"
        stored = buffer.observations
        obs = {k: rows(v) for k, v in stored.items()} if isinstance(stored, dict) else rows(stored)
        return (
            obs_as_tensor(obs, self.device),
            buffer.to_torch(rows(buffer.actions)),
            buffer.to_torch(rows(buffer.log_probs)),
        )

    def _sleep(self) -> None:
        """Fit the recognition network to the policy's own samples at states of the rollout."""
        stored = self.rollout_buffer.observations  # flattened by the update: (n_steps · n_envs, …)
        count = self.rollout_buffer.buffer_size * self.n_envs
        noise, optimizer, total = self.policy.noise, self.recognition_optimizer, torch.zeros(())
        assert optimizer is not None, "only a latent density has a recognition network"
        parameters = self.policy.recognition_parameters()
        for _ in range(self.recognition_steps):
            index = torch.randint(
                count, (min(ROWS, count),), generator=noise.generator("cpu")
            ).numpy()
            obs = (
                {k: v[index] for k, v in stored.items()}
                if isinstance(stored, dict)
                else stored[index]
            )
            with torch.no_grad():
                context = self.policy.context(obs_as_tensor(obs, self.device))
            loss, info = sleep_loss(self.policy.density, context, noise.generator(context.device))
            optimizer.zero_grad()
            loss.backward(inputs=parameters)
            optimizer.step()
            total = total + info["recognition_loss"].cpu()
        if self.recognition_steps:
            self.logger.record("train/recognition_loss", float(total) / self.recognition_steps)
