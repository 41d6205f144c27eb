"""What is concluded: the verdicts on what was measured.

* `judge`: all of them, one a cause; `verdicts`: what a verdict is, and the steps it is read from.
* `thresholds`: where verdicts begin, and why there.
* `forward`, `backward`, `scales`, `units`, `learning_rate`: one kind of trouble each.
"""
