"""The inner face of `taps`: what the rooms built on it need beyond `sites` and `record`.

Other rooms import these names from here; nothing about them is promised to users.
"""

from jaxopt_tut.taps.axes import CONTRACTIONS
from jaxopt_tut.taps.graph import Place
from jaxopt_tut.taps.interpreter import Recording, evaluate
from jaxopt_tut.taps.kinds import ELEMENTWISE, REARRANGING
from jaxopt_tut.taps.layers import Layer, require_examples, require_layers
from jaxopt_tut.taps.program import Program, trace_program
from jaxopt_tut.taps.site import Tapped
from jaxopt_tut.taps.tracing import (
    Parts,
    first_by_position,
    leaf_name,
    take_apart,
    take_parameters,
)

__all__ = [
    "CONTRACTIONS",
    "ELEMENTWISE",
    "REARRANGING",
    "Layer",
    "Parts",
    "Place",
    "Program",
    "Recording",
    "Tapped",
    "evaluate",
    "first_by_position",
    "leaf_name",
    "require_examples",
    "require_layers",
    "take_apart",
    "take_parameters",
    "trace_program",
]
