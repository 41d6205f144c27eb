"""Where the first NaN or infinity comes from.

* `search`: the entry; `suspects`: of several values the one that does harm.
* `births`, `origins`: on the way forward; in a whole program, in one operation; `times`: when.
* `slopes`: on the way back.
"""
