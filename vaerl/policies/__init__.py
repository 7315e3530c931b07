"""Densities as policies for Stable-Baselines3: they work in its unmodified SAC, PPO and A2C."""

from vaerl.policies.actor import DensityActor
from vaerl.policies.actor_critic import ActorCriticPolicy
from vaerl.policies.sac import SACPolicy

__all__ = ["ActorCriticPolicy", "DensityActor", "SACPolicy"]
