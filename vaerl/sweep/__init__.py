"""Many trainings with one command: a grid of settings and seeds, in one folder with one table."""
