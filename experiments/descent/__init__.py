"""The descent scheme: a direction, a step size, and remedies where it is slow."""
