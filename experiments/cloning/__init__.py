"""Which density clones behaviour that solves a task in several ways?"""
