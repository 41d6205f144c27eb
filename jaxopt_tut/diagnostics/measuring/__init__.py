"""What is measured: every layer in one forward and one backward pass, and what is kept of it.

* `statistics`, `results`: the entry, and what it returns.
* `one_pass`: the pass itself; `first_step`: what an optimizer makes of its gradient.
* `summaries`, `units`: what is kept of an array, and of units and examples.
* `stacking`: all layers in few arrays, and cut apart again.

Nothing here judges.
"""
