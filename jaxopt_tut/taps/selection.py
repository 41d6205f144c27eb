"""Choose sites: the layers, all of them, by name, by operation, or by a predicate."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from jaxopt_tut.taps.graph import Place
from jaxopt_tut.taps.site import Site

Select = str | Sequence[str] | Callable[[Site], bool]
"""`"layers"`, `"*"`, a glob of names, `"op:"` and a glob of operations, several of these, or a
function of the site."""


def select_sites(
    caller: str,
    found: Sequence[tuple[Site, Place]],
    select: Select,
    *,
    with_cotangents: bool = False,
) -> list[tuple[Site, Place]]:
    """Keep the sites that are asked for.

    Args:
      caller: The name of the function that asks; it opens the messages.
      found: What `find_sites` returned.
      select: What is asked for.
      with_cotangents: Whether the cotangents are wanted too. `"layers"` and `"*"` then leave out
        what has none.

    Returns:
      The sites in the order of the program.

    Raises:
      TypeError: If `select` is neither text, texts nor a function.
      ValueError: If nothing is selected, or a site without a cotangent is asked for by name,
        operation or predicate while cotangents are wanted.
    """
    patterns = [select] if isinstance(select, str) else select
    if not callable(patterns) and not (
        isinstance(patterns, Sequence) and all(isinstance(p, str) for p in patterns)
    ):
        raise TypeError(
            f"{caller} needs select to be a pattern, a list of patterns or a function of a site, "
            f"got {select!r}."
        )
    kept = []
    for site, place in found:
        broadly, exactly = _match(site, patterns)
        if exactly and with_cotangents and site.blocked_by:
            raise ValueError(
                f"{caller} has no cotangent for {site.name!r}: it goes into or lies inside "
                f"{site.blocked_by}, where JAX defines none; record gives its value."
            )
        if exactly or (broadly and not (with_cotangents and site.blocked_by)):
            kept.append((site, place))
    if not kept:
        raise ValueError(_nothing(caller, found, select))
    return kept


def _match(site, patterns) -> tuple[bool, bool]:
    """Say whether a site is among all or all layers, and whether it is asked for itself."""
    if callable(patterns):
        return False, bool(patterns(site))
    broadly = "*" in patterns or ("layers" in patterns and site.kind != "other")
    exactly = any(
        fnmatchcase(site.op, pattern[3:])
        if pattern.startswith("op:")
        else pattern == site.name or fnmatchcase(site.name, pattern)
        for pattern in patterns
        if pattern not in ("*", "layers")
    )
    return broadly, exactly


def _nothing(caller, found, select) -> str:
    if not found:
        return f"{caller} found no site: the function computes no floating value."
    names = [site.name for site, _ in found]
    layers = [site.name for site, _ in found if site.kind != "other"]
    shown = (layers or names)[:20]
    more = len(names) - len(shown)
    rest = f" and {more} more (see taps.sites)" if more else ""
    return f"{caller} found no site for select={select!r}; there are {', '.join(shown)}{rest}."
