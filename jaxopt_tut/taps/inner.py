"""The inner face of `taps`: what the rooms built on it need beyond `sites` and `record`.

Other rooms import these names from here; nothing about them is promised to users.
"""

from jaxopt_tut.taps.axes import CONTRACTIONS
from jaxopt_tut.taps.graph import Place, read_graph
from jaxopt_tut.taps.interpreter import evaluate
from jaxopt_tut.taps.kinds import ELEMENTWISE, REARRANGING
from jaxopt_tut.taps.layers import Layer, find_layers
from jaxopt_tut.taps.site import find_sites
from jaxopt_tut.taps.tracing import (
    Program,
    first_by_position,
    leaf_name,
    trace_program,
    traced_leaves,
)

__all__ = [
    "CONTRACTIONS",
    "ELEMENTWISE",
    "REARRANGING",
    "Layer",
    "Place",
    "Program",
    "evaluate",
    "find_layers",
    "find_sites",
    "first_by_position",
    "leaf_name",
    "read_graph",
    "trace_program",
    "traced_leaves",
]
