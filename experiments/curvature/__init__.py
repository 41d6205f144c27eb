"""Curvature and landscape: what the loss looks like around a network, with error bars."""
