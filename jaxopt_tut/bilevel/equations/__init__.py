"""Equations and fixed points: what solves them; see `root` and `fixed_point`."""
