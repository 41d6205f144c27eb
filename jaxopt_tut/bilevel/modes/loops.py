"""Loops that keep little for their derivative: checkpointed scans within checkpointed scans."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxopt_tut import control_flow

Carry = TypeVar("Carry")


def checkpointed_loop(
    step: Callable[[Carry, Any], Carry], carry: Carry, num_steps: int, levels: int
) -> Carry:
    r"""Take steps in nested scans, each of which keeps only where its rounds begin.

    With $L$ levels of $b_1, \dots, b_L$ rounds, $\prod_i b_i \ge T$, reverse mode holds at most

    $$\textstyle\sum_i b_i\ \text{carries and the residuals of one step},$$

    at the price of $L$ forward passes more than without: 5 levels of 4 rounds cover 1024 steps
    with 20 carries. The steps beyond $T$ are skipped by a branch. The program's size, and with it
    the time to compile, grows with $L$ and not with $T$.
    """
    # Griewank and Walther (2000), algorithm 799, has the optimal schedule, which is not a scan.
    # https://doi.org/10.1145/347837.347846
    if levels == 0:
        plain = lambda carry, index: (step(carry, index), None)
        return control_flow.scan(plain, carry, jnp.arange(num_steps))[0]
    rounds = num_rounds(num_steps, levels)
    is_exact = math.prod(rounds) == num_steps

    def leaf(carry: Carry, index: Any) -> Carry:
        if is_exact:
            return step(carry, index)
        return control_flow.cond(index < num_steps, step, lambda carry, _: carry, carry, index)

    body = leaf
    stride = 1
    for length in reversed(rounds):
        body = _scan_of(body, length, stride)
        stride *= length
    return body(carry, 0)


def _scan_of(body: Callable, length: int, stride: int) -> Callable:
    def scan(carry: Any, first: Any) -> Any:
        # a scan is its own barrier: no common subexpression can undo the recomputation
        one = jax.checkpoint(body, prevent_cse=False)
        advance = lambda carry, index: (one(carry, first + stride * index), None)
        return control_flow.scan(advance, carry, jnp.arange(length))[0]

    return scan


def num_rounds(num_steps: int, levels: int) -> list[int]:
    """Split a number of steps over nested loops, with the smallest sum of their lengths."""
    # more levels than log2(num_steps) would loop once
    levels = max(1, min(levels, int(math.log2(max(num_steps, 1)))))
    # equal lengths, and then the innermost ones shorter as long as the product reaches
    base = 1
    while base**levels < num_steps:
        base += 1
    rounds = [base] * levels
    for level in reversed(range(levels)):
        shorter = [*rounds[:level], base - 1, *rounds[level + 1 :]]
        if math.prod(shorter) >= num_steps:
            rounds = shorter
    return rounds
