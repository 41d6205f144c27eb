"""Training at scale: runs that survive, sweeps in one program, races with statistics."""
