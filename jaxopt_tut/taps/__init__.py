"""Read values and cotangents inside any function, without an edit of the function.

* `sites`: the places where a value can be read, each a `Site` with its name and role.
* `record`: the result of a function and a `Tape` of the values inside.
* `record_gradients`: loss, gradients, values, and the derivative of the loss by each value.

A function is any function: flax nnx and linen, equinox, or plain JAX. Sites are found in its
jaxpr and named after the parameters.
"""

from jaxopt_tut.taps.program import sites
from jaxopt_tut.taps.recording import record, record_gradients
from jaxopt_tut.taps.selection import Select
from jaxopt_tut.taps.site import Site
from jaxopt_tut.taps.tape import Tape

__all__ = ["Select", "Site", "Tape", "record", "record_gradients", "sites"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
