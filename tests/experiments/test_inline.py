"""Docstrings as HTML and Markdown say what they said."""

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from experiments import _inline, _numbers

TEXT = st.one_of(
    st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=40),
    st.text("ab `|{}\\<>[]()!*_$#&;:/-.3\n", max_size=20),
)


def letters_of(markup):
    return "".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())


def without_marks(text):
    """Take away the single backticks around code, as no page shows them."""
    return re.sub(r"(?<!`)`(\s*[^`\s][^`]*)`(?!`)", r"\1", text)


@given(TEXT)
@example("a*b*c _d_ <e> [f](g) # | $x$ ~~h~~ {i}`j` 3. k")
def test_html_shows_the_text(text):
    shown = html.unescape(re.sub(r"</?(code|a)\b[^>]*>", "", _inline.to_html(text)))
    assert shown == without_marks(text)


@given(TEXT)
@example("a*b*c _d_ <e> [f](g) # | $x$ ~~h~~ {i} \\ &amp; !")
@example("> 3")
@example("1. a")
@example("``a` `b``")
@example("`a|b` | `c`{d} `` e")
def test_markdown_shows_the_text(text):
    expected = "".join(without_marks(" ".join(text.split())).split())  # code loses outer blanks
    parser = MarkdownIt("commonmark").enable("table")
    assert letters_of(parser.render(_inline.to_markdown(text))) == expected
    row = parser.render(f"| a | b |\n| --- | --- |\n| {_inline.to_cell(text)} | c |")
    assert letters_of(row) == f"ab{expected}c"


@given(TEXT)
def test_code_and_words_are_shown_as_they_are(text):
    expected = " ".join(text.split())
    shown = MarkdownIt("commonmark").renderInline(_inline.words_to_markdown(text))
    assert html.unescape(shown) == expected
    if expected:
        shown = MarkdownIt("commonmark").renderInline(_inline.code_to_markdown(text))
        assert html.unescape(shown) == f"<code>{expected}</code>"


@pytest.mark.parametrize(
    ("text", "as_html", "as_markdown"),
    [
        ("`x_y` < 1", "<code>x_y</code> &lt; 1", r"`x_y` \< 1"),
        (
            "see https://a.org/x_y, and more",
            'see <a href="https://a.org/x_y">https://a.org/x_y</a>, and more',
            r"see <https://a.org/x_y>\, and more",
        ),
        ("a\nb", "a\nb", "a b"),
    ],
)
def test_code_and_links_are_marked(text, as_html, as_markdown):
    assert _inline.to_html(text) == as_html
    assert _inline.to_markdown(text) == as_markdown


def test_numbers_are_shortened():
    value = {
        "a": {"b": 0.123456789, "c": [1, 2.5, "nan", None, True]},
        "long": list(range(20)),
        "rows": [[1, 2], {"x": 3}],
        "none": [],
    }
    assert _numbers.to_text(value).splitlines() == [
        "a:",
        "  b: 0.123457",
        "  c: [1, 2.5, nan, null, true]",
        "long: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … 8 more]",
        "rows:",
        "  - [1, 2]",
        "  - x: 3",
        "none: []",
    ]
    lines = _numbers.to_text({str(i): i for i in range(200)}).splitlines()
    assert len(lines) == 121
    assert lines[-1] == "… 80 lines more"
