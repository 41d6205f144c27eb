"""What is concluded: the verdicts on what was measured.

* `judge`: all of them, one a cause; `verdicts`: what a verdict is.
* `steps`: the layers at each step of the scans around them, from which verdicts are read.
* `thresholds`: where verdicts begin, and why there.
* `forward`, `backward`, `scales`, `units`, `learning_rate`: one kind of trouble each.
"""
