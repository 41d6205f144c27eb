"""Compiled programs of functions that users write, found again without ever being stale.

`jax.jit` finds a program by the equality of its static arguments, and keeps them alive. Neither
will do for a runner such as `minimize`: two closures may be equal in all that can be compared and
read different globals, and a closure over 40 MB of data must go when its user lets it go. Here

* a user's function is equal to itself alone, and what it reads is looked at again in every call;
* transformations that the library or optax build anew from equal numbers share a program, and the
  arrays among those numbers are arguments of it;
* a program goes when one of the objects it was made for does.
"""

from jaxopt_tut.programs.cache import is_tracing, run

__all__ = ["is_tracing", "run"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
