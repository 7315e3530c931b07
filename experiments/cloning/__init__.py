"""Which density clones behaviour that solves a task in several ways? So far: how handwriting is judged."""
