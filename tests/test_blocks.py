"""Readable blocks: of few lines whatever is in them, and escaped in a notebook."""

import dataclasses
import html.parser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import blocks, tracing
from jaxopt_tut.blocks import Block, brief, in_a_line, number, numbers, spread_of


@dataclasses.dataclass(frozen=True, repr=False)
class Shown(Block):
    title: str
    rows: tuple

    def _block(self):
        return self.title, self.rows


@dataclasses.dataclass(frozen=True)
class InALine(Shown):
    pass


def test_names_stand_under_one_another_and_texts_beside_them():
    block = Shown("Result", (("a", "1"), ("longer", "2\n3"), ("empty", "")))
    assert str(block) == repr(block) == "Result\n  a       1\n  longer  2\n          3\n  empty"
    assert str(Shown("Nothing", ())) == "Nothing"
    assert str(InALine("Result", (("a", "1"),))) == "Result\n  a  1"
    assert repr(InALine("Result", ())) == "InALine(title='Result', rows=())"


class Cells(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, _):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_table_holds_the_same_and_nothing_of_it_is_markup():
    rows = (("<b>", "<script>alert(1)</script>"), ("a & b", "1\n2"))
    cells = Cells(Shown("<i>", rows)._repr_html_())
    assert set(cells.tags) == {"table", "caption", "tbody", "tr", "th", "td", "pre"}
    assert cells.texts == ["<i>", *rows[0], *rows[1]]


class Long:
    def __repr__(self):
        return "x" * 1000 + "\n" * 50


def deleted():
    array = jnp.ones(3)
    array.delete()
    return array


ANYTHING = {
    "nothing": None,
    "empty": {},
    "number": 1.5,
    "text": "a" * 500,
    "object": Long(),
    "objects": [Long()] * 30,
    "large": np.zeros((200, 300)),
    "many axes": np.zeros((3, 4, 5, 2)),
    "no rows": np.zeros((0, 3)),
    "half": jnp.ones(3, jnp.bfloat16),
    "complex": jnp.full(3, 1j),
    "key": jax.random.key(0),
    "keys": {"key": jax.random.split(jax.random.key(0), 3)},
    "shape": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "deleted": deleted(),
    "many": {f"leaf {i}": np.arange(i) for i in range(100)},
    "not finite": np.array([np.nan, np.inf, 1.0]),
    "truth": np.array([True, False]),
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "strings": np.array(["a" * 300] * 30),
}


@pytest.mark.parametrize("only_shapes", [False, True], ids=["numbers", "shapes"])
@pytest.mark.parametrize("thing", ANYTHING.values(), ids=ANYTHING)
def test_anything_is_shown_in_few_short_lines(thing, only_shapes):
    lines = brief(thing, only_shapes=only_shapes).split("\n")
    assert 1 <= len(lines) <= 8
    assert max(map(len, lines)) <= 80
    assert "\n" not in number(thing) or np.ndim(thing) > 0 or isinstance(thing, dict | list)


def test_few_numbers_are_shown_and_of_many_the_ends_and_the_shape():
    assert brief(np.array([1.0, 2.5])) == "[1.  2.5]"
    many = brief(np.arange(1000.0))
    assert many.startswith("float64[1000]\n[  0.   1.   2. ...")
    assert many.endswith("999.]")
    tree = brief({"a": np.array([1.0, 2.5]), "b": np.zeros((30, 40))})
    assert tree == "a: [1. 2.5]\nb: float64[30,40]"
    counted = brief({f"{i:2}": i for i in range(30)}).split("\n")
    assert counted[0] == " 0: 0"
    assert counted[-1] == "... and 23 more"
    assert len(counted) == 8
    assert brief(np.ones(2), only_shapes=True) == "float64[2]"


def test_tracers_are_shown_by_their_shapes():
    shown = []

    def look(x):
        shown.extend([brief({"w": x}), brief(x), number(jnp.sum(x)), numbers(x)])
        return x

    jax.jit(look)(jnp.ones((2, 3)))
    jax.vmap(look)(jnp.ones((4, 2, 3)))
    assert shown == ["w: float32[2,3]", "float32[2,3]", "float32[]", None] * 2


def test_a_spread_leaves_out_what_is_not_finite_and_counts_it():
    values = np.array([3.0, np.nan, 1.0, 7.0, np.inf])
    assert spread_of(values) == "min 1, median 3, max 7; 2 not finite"
    assert spread_of(np.array([2, 4])) == "min 2, median 3, max 4"
    assert spread_of(np.array([np.nan])) == "no finite number"
    assert spread_of(np.zeros(0)) == "no finite number"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1 / 3, "0.333333"),
        (np.float32(2), "2"),
        (7, "7"),
        (jnp.asarray(True), "True"),
        (1e-9, "1e-09"),
    ],
)
def test_a_number_is_shown_in_six_digits(value, text):
    assert number(value) == text


@pytest.fixture
def fetched(monkeypatch):
    """Count the numbers that are copied from a device, and waited for."""
    sizes = []

    def known(value):
        sizes.append(np.size(value))
        return tracing.known(value)

    monkeypatch.setattr(blocks, "known", known)
    return sizes


@pytest.mark.parametrize("shape", [(300, 400), (120_000,), (30, 40, 50), (6,) * 7])
def test_of_a_large_array_the_ends_are_fetched_and_of_one_in_a_tree_nothing(shape, fetched):
    large = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    kind = f"float32[{','.join(map(str, shape))}]"
    assert brief({"a": large, "b": large}) == f"a: {kind}\nb: {kind}"
    assert in_a_line(large) == kind
    assert brief(large, only_shapes=True) == kind
    assert fetched == []
    text = brief(large)
    assert sum(fetched) <= 7**3
    if shape == (6,) * 7:  # NumPy would leave out none of these
        assert text == kind
        return
    options = {"precision": 4, "threshold": 20, "edgeitems": 3, "max_line_width": 76}
    lines = np.array2string(np.asarray(large), **options).splitlines()
    assert text.splitlines()[:7] == [kind, *lines][:7]
    assert brief(np.asarray(large)) == text


def test_the_ends_of_a_constant_are_shown_under_a_trace():
    large, texts = jnp.arange(120_000.0), []
    program = jax.make_jaxpr(lambda x: texts.append(brief(large)) or x)(1.0)
    assert "..." in texts[0]
    assert not program.eqns
