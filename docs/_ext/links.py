"""Inline code that names something public, or an experiment, links to its page."""

import importlib.util
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from docs._ext import names as catalogue
from docs._ext.uses import known

WORD = re.compile(r"([A-Za-z_][\w.]*)(\(.*\))?", re.DOTALL)
EXPERIMENT = re.compile(r"experiments/(\w+)")
FILES = (".py", ".md", ".json", ".svg", ".png", ".txt", ".csv", ".npz")
log = logging.getLogger(__name__)


def page_for(text: str, here: str) -> str | None:
    """Return the page that inline code on the page `here` means.

    Raises:
      LookupError: If it is written as a name of the library which does not exist.
    """
    if found := EXPERIMENT.fullmatch(text):
        return f"gallery/{found[1]}"
    found = WORD.fullmatch(text)
    if found is None or text.endswith(FILES):
        return None
    word = found[1].removeprefix(f"{catalogue.PACKAGE}.")
    if "." not in word:
        return _bare(word, here)
    name = known(word)
    if name is None:
        return None
    if name in {room.name for room in catalogue.rooms()} and name != word:
        if _is_inner(word):
            return None
        raise LookupError(f"{text} is no public name of {name}")
    return catalogue.pages()[name]


def _is_inner(word: str) -> bool:
    """Tell whether a word is a module that is none of the rooms."""
    try:
        return importlib.util.find_spec(f"{catalogue.PACKAGE}.{word}") is not None
    except ModuleNotFoundError:
        return False


def _bare(word: str, here: str) -> str | None:
    """Find a name without a room: in the room of the page first, then the only one of that name."""
    if here.startswith("reference/"):
        parts = here.split("/")[1:-1]
        for length in range(len(parts), 0, -1):
            page = catalogue.pages().get(".".join([*parts[:length], word]))
            if page:
                return page
    dotted = catalogue.unique().get(word)
    # words that are common in sentences of code (`step`, `fit`, `box`) stay what they are
    telling = "_" in word or word[:1].isupper()
    return catalogue.pages()[dotted] if dotted and telling else None


class LinkCode(SphinxPostTransform):
    """Wrap literals in references, where a page answers to them."""

    default_priority = 100

    def run(self, **_: object) -> None:
        """Look at every literal that is not in a link or a title already."""
        here = self.env.docname
        for literal in list(self.document.findall(nodes.literal)):
            parents = _parents(literal)
            if any(isinstance(p, (nodes.reference, nodes.title)) for p in parents):
                continue
            try:
                page = page_for(literal.astext(), here)
            except LookupError as error:
                log.warning("%s", error, location=literal, type="ref", subtype="public")
                continue
            if page is None or page == here or page not in self.env.found_docs:
                continue
            uri = self.app.builder.get_relative_uri(here, page)
            link = nodes.reference("", "", refuri=uri, internal=True)
            literal.replace_self(link)
            link += literal


def _parents(node):
    while node.parent is not None:
        node = node.parent
        yield node


def _leave_types(_app, _env, node, contnode):
    """Show a type in a signature as it is, where it has no page: JAX's, optax's, inner aliases."""
    if node.get("refdomain") == "py" and node.get("reftype") in ("class", "obj", "exc"):
        return contnode
    return None


def setup(app):
    """Register the transform."""
    app.connect("missing-reference", _leave_types)
    app.add_post_transform(LinkCode)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
