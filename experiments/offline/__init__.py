"""Offline reinforcement learning from noisy play with a cube."""
