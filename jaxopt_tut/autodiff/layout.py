r"""Where boxes of a graph stand, and where arrows pass between them.

The layer of a box is the length of the longest path that leads to it,
$\ell_i = 1 + \max_{j \in \mathrm{parents}(i)} \ell_j$; what has no more parents than children moves
down to the first of these, so that a bias stands above the sum that it enters. An arrow over more
layers than one takes a place of its own in each: no arrow runs behind a box. Within a layer all
stand in the order of the mean position of their neighbours (Sugiyama, Tagawa, Toda, 1981), as near
to it as their widths allow.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

GAP_X, GAP_Y = 24, 36
_LANE = 10
"""The width that an arrow takes up on its way through a layer."""

_SWEEPS = 6

Number = int | float
Edge = tuple[int, int]


class Layout(NamedTuple):
    """Places of boxes and ways of arrows.

    Attributes:
      places: The middle of the top edge of each box.
      ways: For each arrow the upright pieces between its ends: x, and y from and to.
      width: Of all of it.
      height: Likewise.
    """

    places: list[tuple[Number, Number]]
    ways: list[list[tuple[Number, Number, Number]]]
    width: Number
    height: Number


def lay_out(sizes: Sequence[tuple[Number, Number]], edges: Sequence[Edge]) -> Layout:
    """Lay out boxes of these widths and heights, parents before children."""
    depth = _depths(len(sizes), edges)
    widths = [width for width, _ in sizes]
    levels = list(depth)
    # one chain of lanes for each box whose value is used far below, whoever uses it there
    chains: dict[int, list[int]] = {}
    for start, end in edges:
        chain = chains.setdefault(start, [start])
        for level in range(depth[start] + len(chain), depth[end]):
            chain.append(len(levels))
            levels.append(level)
            widths.append(_LANE)
    steps = {step for chain in chains.values() for step in itertools.pairwise(chain)}
    for start, end in edges:
        steps.add((chains[start][depth[end] - depth[start] - 1], end))
    x = _columns(levels, widths, sorted(steps))
    tops, heights, y = [], [], 0
    for level in range(max(levels, default=-1) + 1):
        inside = [sizes[i][1] for i in range(len(sizes)) if depth[i] == level]
        tops.append(y)
        heights.append(max(inside, default=0))
        y += heights[-1] + GAP_Y
    ways = []
    for start, end in edges:
        lanes = chains[start][1 : depth[end] - depth[start]]
        ways.append([(x[k], tops[levels[k]], tops[levels[k]] + heights[levels[k]]) for k in lanes])
    left = min((x[i] - widths[i] / 2 for i in range(len(x))), default=0)
    right = max((x[i] + widths[i] / 2 for i in range(len(x))), default=0)
    places = [(x[i] - left, tops[depth[i]]) for i in range(len(sizes))]
    ways = [[(at - left, low, high) for at, low, high in way] for way in ways]
    return Layout(places, ways, right - left, max(y - GAP_Y, 0))


def _depths(num: int, edges: Sequence[Edge]) -> list[int]:
    parents: list[set[int]] = [set() for _ in range(num)]
    children: list[set[int]] = [set() for _ in range(num)]
    for start, end in edges:
        parents[end].add(start)
        children[start].add(end)
    depth: list[int] = []
    for above in parents:  # boxes stand in topological order
        depth.append(1 + max((depth[j] for j in above), default=-1))
    for i in reversed(range(num)):
        if children[i] and len(parents[i]) <= len(children[i]):
            depth[i] = min(depth[j] for j in children[i]) - 1
    return depth


def _columns(levels: list[int], widths: list[Number], steps: list[Edge]) -> list[float]:
    """Return the middle of each: near to its neighbours, in rows without overlap."""
    parents: list[list[int]] = [[] for _ in levels]
    children: list[list[int]] = [[] for _ in levels]
    for start, end in steps:
        parents[end].append(start)
        children[start].append(end)
    rows: list[list[int]] = [[] for _ in range(max(levels, default=-1) + 1)]
    for k, level in enumerate(levels):
        rows[level].append(k)
    x = [0.0] * len(levels)
    for row in rows:
        for place, k in enumerate(row):
            x[k] = place * 100.0
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            near = parents if down else children
            wanted = {k: float(np.mean([x[j] for j in near[k] or [k]])) for k in row}
            order = sorted(row, key=lambda k: (wanted[k], k))
            found = _apart([wanted[k] for k in order], [widths[k] for k in order])
            for k, at in zip(order, found, strict=True):
                x[k] = at
    return x


def _apart(wanted: list[float], widths: list[Number]) -> list[float]:
    r"""Return the places nearest to those wanted, in their order, that leave a gap between.

    $$\min \sum_i (x_i - w_i)^2 \quad\text{with}\quad x_{i+1} - x_i \ge s_i$$

    by pooling adjacent violators of $x_i - \sum_{j < i} s_j$.
    """
    steps = [(a + b) / 2 + GAP_X for a, b in itertools.pairwise(widths)]
    shifts = np.concatenate([[0.0], np.cumsum(steps)])[: len(wanted)]
    pools: list[tuple[float, int]] = []
    for value in np.asarray(wanted) - shifts:
        pools.append((float(value), 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (last, many), (before, few) = pools.pop(), pools.pop()
            pools.append(((last * many + before * few) / (many + few), many + few))
    spread = [mean for mean, count in pools for _ in range(count)]
    return [mean + shift for mean, shift in zip(spread, shifts.tolist(), strict=True)]
