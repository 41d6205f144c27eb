"""Choose sites: the layers, all of them, by name, by operation, or by a predicate."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from jaxopt_tut.taps.site import Site, Tapped
from jaxopt_tut.trees import matching_names

Select = str | Sequence[str] | Callable[[Site], bool]
"""`"layers"`, `"*"`, a glob of names, `"op:"` and a glob of operations, several of these, or a
function of the site. A name that `sites` prints means that site alone, whatever is in it."""


def select_sites(
    caller: str, found: Sequence[Tapped], select: Select, *, with_cotangents: bool = False
) -> list[Tapped]:
    """Keep the sites that are asked for.

    Where the cotangents are wanted too, `"layers"` and `"*"` leave out what has none.
    """
    patterns = [select] if isinstance(select, str) else select
    if not callable(patterns) and not (
        isinstance(patterns, Sequence) and all(isinstance(p, str) for p in patterns)
    ):
        raise TypeError(
            f"{caller} needs select to be a pattern, a list of patterns or a function of a site, "
            f"got {select!r}."
        )
    named = set() if callable(patterns) else _named(patterns, [site for site, _ in found])
    kept = []
    for tapped in found:
        site = tapped.site
        broadly = not callable(patterns) and (
            "*" in patterns or ("layers" in patterns and site.kind != "other")
        )
        exactly = bool(patterns(site)) if callable(patterns) else site.name in named
        if exactly and with_cotangents and site.blocked_by:
            raise ValueError(
                f"{caller} has no cotangent for {site.name!r}: it goes into or lies inside "
                f"{site.blocked_by}, where JAX defines none; record gives its value."
            )
        if exactly or (broadly and not (with_cotangents and site.blocked_by)):
            kept.append(tapped)
    if not kept:
        raise ValueError(_nothing(caller, found, select))
    return kept


def _named(patterns: Sequence[str], sites: Sequence[Site]) -> set[str]:
    """Collect the names of the sites that are asked for themselves."""
    names = {site.name for site in sites}
    named: set[str] = set()
    for pattern in patterns:
        if pattern in ("*", "layers"):
            continue
        if pattern.startswith("op:") and pattern not in names:
            named |= {site.name for site in sites if fnmatchcase(site.op, pattern[3:])}
        else:
            named |= matching_names(pattern, names)
    return named


def _nothing(caller: str, found: Sequence[Tapped], select: Select) -> str:
    if not found:
        return f"{caller} found no site: the function computes no floating value."
    names = [site.name for site, _ in found]
    layers = [site.name for site, _ in found if site.kind != "other"]
    shown = (layers or names)[:20]
    more = len(names) - len(shown)
    rest = f" and {more} more (see taps.sites)" if more else ""
    return f"{caller} found no site for select={select!r}; there are {', '.join(shown)}{rest}."
