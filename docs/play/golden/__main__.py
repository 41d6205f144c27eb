"""Write what the library computes: `python -m docs.play.golden OUT.json`.

The tests ask the same functions, so that what they compare with is never out of date.
"""

import json
import sys
from pathlib import Path

from docs.play.golden import backpropagation, descent, hypergradient, initialization

PARTS = (
    descent.collect,
    backpropagation.adjoints,
    hypergradient.hypergradients,
    initialization.gains,
    initialization.fields,
    initialization.criticals,
    initialization.thresholds,
    initialization.verdicts,
)

if len(sys.argv) != 2:
    sys.exit("usage: python -m docs.play.golden OUT.json")
found = {f"{part.__module__.split('.')[-1]}.{part.__name__}": part() for part in PARTS}
Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
