"""Inline code that names something public, or an experiment, links to its page."""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from docs._ext.targets import page_for

log = logging.getLogger(__name__)


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
