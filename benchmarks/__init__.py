"""Side-by-side measurements against peers: `python -m benchmarks [NAME ...]`.

Every module here with a `main(quick: bool)` is a benchmark. Figures are ratios from one run: the
variants take turns, so that a slow minute of the machine slows them all, and medians are printed.
"""
