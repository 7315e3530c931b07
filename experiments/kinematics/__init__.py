"""Inverse kinematics online, and what is left of a policy when its way is blocked."""
