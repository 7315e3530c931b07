"""What is left of a policy when the way that it prefers is blocked?"""
