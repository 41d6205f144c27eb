"""How the error flows back: graphs, both modes, nodes of one's own, and their checks."""
