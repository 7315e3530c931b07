"""From cloned to better: reward improves a clone; what keeps its ways."""
