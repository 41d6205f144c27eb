"""One script a claim; `python -m experiments list` names them, `README.md` says how to add one.

A folder a part of the tutorials; modules whose name starts with an underscore are the runner.
"""
