"""Docstrings as HTML and Markdown say what they said."""

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from experiments import _inline, _numbers

TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=40)


def words_of(markup):
    return html.unescape(re.sub(r"<[^>]+>", "", markup)).strip()


@given(TEXT)
@example("a*b*c _d_ <e> [f](g) # | $x$ ~~h~~ {i}`j` 3. k")
def test_html_shows_the_text(text):
    shown = html.unescape(re.sub(r"</?(code|a)\b[^>]*>", "", _inline.to_html(text)))
    assert shown == re.sub(r"`([^`]+)`", r"\1", text)


@given(TEXT.map(lambda text: text.replace("`", "'").replace("://", ":")))
@example("a*b*c _d_ <e> [f](g) # | $x$ ~~h~~ {i} \\ &amp; !")
@example("> 3")
def test_markdown_shows_the_text(text):
    # at the start of a line a number or a dash would begin a list: pages have none that is open
    shown = MarkdownIt("commonmark").render("x " + _inline.to_markdown(text))
    assert words_of(shown) == " ".join(["x", *text.split()])


@pytest.mark.parametrize(
    ("text", "as_html", "as_markdown"),
    [
        ("`x_y` < 1", "<code>x_y</code> &lt; 1", r"`x_y` \< 1"),
        (
            "see https://a.org/x_y, and more",
            'see <a href="https://a.org/x_y">https://a.org/x_y</a>, and more',
            "see <https://a.org/x_y>, and more",
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
