"""What is measured: every layer in one forward and one backward pass, and what is kept of it.

* `statistics`, `results`: the entry, and what it returns.
* `one_pass`: the way from a loss to all numbers, in the order of the next four.
* `network`: the loss traced, and refused where there is nothing to measure.
* `readings`: the arrays of each layer, from the two passes.
* `first_step`: what an optimizer makes of the gradient.
* `stacking`: all layers in few arrays, and cut apart again.
* `summaries`, `units`: what is kept of an array, and of units and examples.

Nothing here judges.
"""
