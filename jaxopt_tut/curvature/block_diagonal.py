"""The diagonal blocks of an operator: one a layer, a leaf or a pattern of names."""

from collections.abc import Mapping
from typing import Literal

from typing_extensions import TypeAliasType

from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.trees import matching_names, named_leaves

By = TypeAliasType("By", Literal["layer", "leaf"] | Mapping[str, str])
"""How leaves go into blocks."""


def blocks(op: Operator, by: By = "layer") -> dict[str, Operator]:
    r"""Return the diagonal blocks of an operator, each for some of the leaves.

    $$H_{bb} = P_b H P_b^\top$$

    A block of a `hessian`, a `gauss_newton` or an `empirical_fisher` differentiates by its own
    leaves alone, with the others held fixed.

    Args:
      op: An operator on trees of parameters.
      by: `"leaf"`: each leaf a block, by its path. `"layer"`: the leaves in one container, such as
        kernel and bias, by the path of that; `"(root)"` for the leaves that are in none. Or a
        mapping from patterns of paths, as in the shell, to names: of the patterns that match a leaf
        the first counts, and leaves that none matches are in no block.

    Returns:
      The blocks by name, in the order of the leaves.

    Raises:
      ValueError: If `by` is none of these, or a pattern matches no leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.curvature import hessian
      >>> loss_fn = lambda p: p["a"]["w"] ** 2 * p["a"]["b"] + p["c"]["w"] ** 3
      >>> params = {"a": {"w": 1.0, "b": 2.0}, "c": {"w": 1.0}}
      >>> for name, block in blocks(hessian(loss_fn, params)).items():
      ...     print(name, block.to_dense().tolist())
      a [[0.0, 2.0], [2.0, 4.0]]
      c [[6.0]]
    """
    paths = [name for name, _ in named_leaves(op.like)]
    if isinstance(by, Mapping):
        names = _by_pattern(by, paths)
    elif by == "leaf":
        names = dict(enumerate(paths))
    elif by == "layer":
        names = {i: path.rpartition("/")[0] or "(root)" for i, path in enumerate(paths)}
    else:
        raise ValueError(
            f'blocks needs by="layer", "leaf" or a mapping of patterns, got by={by!r}.'
        )
    groups: dict[str, list[int]] = {}
    for place, name in names.items():
        groups.setdefault(name, []).append(place)
    return {name: op.restricted(tuple(places)) for name, places in groups.items()}


def _by_pattern(by: Mapping[str, str], paths: list[str]) -> dict[int, str]:
    """Name the block of every leaf that a pattern matches."""
    found = {pattern: matching_names(pattern, paths) for pattern in by}
    for pattern, matches in found.items():
        if not matches:
            raise ValueError(
                f"blocks needs patterns that match a leaf, got {pattern!r} and the leaves "
                f"{', '.join(paths)}."
            )
    names = {}
    for place, path in enumerate(paths):
        pattern = next((one for one, matches in found.items() if path in matches), None)
        if pattern is not None:
            names[place] = by[pattern]
    return names
