"""One script a claim; `python -m experiments list` names them, `README.md` says how to add one.

Modules whose name starts with an underscore are the runner; every other one is an experiment.
"""
