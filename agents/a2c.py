"""Advantage actor-critic (Mnih et al. 2016) over any density: SB3's algorithm.

    vaerl.agents.A2C("cvae", env).learn(50_000)

As in PPO, a latent density acts through codes that stay fixed for a rollout and the update on it,
so log π is exact. The recognition network, which the policy gradient does not need, is not fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from stable_baselines3 import A2C as SB3A2C
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from vaerl.agents.checked import check_env
from vaerl.agents.common import DensityAgent, for_policy, resolve_policy, signature_of
from vaerl.agents.rollouts import Rollouts
from vaerl.policies import ActorCriticPolicy


class A2C(DensityAgent, Rollouts, SB3A2C):
    """`stable_baselines3.A2C` over a density.

    Args:
        policy: a density's name ("cvae", "gaussian", "mixture", "flow"), an alias of SB3 or a
            policy class.
        normalize_observations, scale_rewards: as in `PPO`.
        others: as in SB3.

    Raises:
        ValueError: an action space that is not a finite float Box, an unknown policy, gSDE.

    >>> A2C("cvae", "Pendulum-v1").policy.density.name
    'cvae'
    """

    debug_options: ClassVar[Mapping[str, Any]] = {"n_steps": 8}
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticPolicy,
        "MultiInputPolicy": ActorCriticPolicy,
    }

    @signature_of(SB3A2C)
    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *args: Any,
        policy_kwargs: dict[str, Any] | None = None,
        normalize_observations: bool | None = None,
        scale_rewards: bool = False,
        **kwargs: Any,
    ) -> None:
        policy, policy_kwargs = resolve_policy(policy, policy_kwargs, self.policy_aliases)
        policy_kwargs = for_policy(
            policy, policy_kwargs, normalize_observations=normalize_observations
        )
        self.scale_rewards = scale_rewards
        kwargs["policy_kwargs"] = policy_kwargs
        super().__init__(policy, check_env(env), *args, **kwargs)

    def train(self) -> None:
        """SB3's update on the rollout."""
        self.policy.entropy_wanted = self.ent_coef != 0.0  # no gradient needs it then
        try:
            super().train()
        finally:
            self.policy.entropy_wanted = True
        self._gather()
