"""Each chapter asks, lets guess, shows, says what the tutorial says, and has two exercises."""

import re
from pathlib import Path

import pytest

LEARN = Path(__file__).parents[2] / "docs" / "learn"
CHAPTERS = sorted(LEARN.glob("[abc][0-9]_*.md"))
PAGES = sorted([*LEARN.parent.glob("*.md"), *LEARN.parent.glob("[a-z]*/*.md")])


def boxes(text):
    """Return titles and contents of the admonitions."""
    return re.findall(r"^:::\{admonition\} (.+?)\n(.*?)^:::$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_its_parts(path):
    text = path.read_text("utf-8")
    question = re.search(r"^\*\*The question\.\*\* (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert question
    assert "?" in question[1]
    titles = [title for title, _ in boxes(text)]
    assert titles.count("Guess first") == 1
    assert "?" in dict(boxes(text))["Guess first"]
    assert [title for title in titles if re.fullmatch("What the tutorials? says?", title)]
    assert "\n# alt: " in text
    assert text.count("\n**What comes next.**") == 1


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_line_of_text_is_taken_for_a_comment(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\s*%.*", text, re.MULTILINE) == []  # which MyST would leave out


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_two_exercises_with_solutions(path):
    _, heading, end = path.read_text("utf-8").partition("\n## Exercises\n")
    assert heading
    exercises = re.split(r"^:::\{admonition\} Exercise (\d)\n", end, flags=re.MULTILINE)[1:]
    assert exercises[::2] == ["1", "2"]
    for exercise in exercises[1::2]:
        assert exercise.count("\n```python\n# solution\n") == 1


def test_the_list_of_chapters_has_all_in_order():
    text = (LEARN / "index.md").read_text("utf-8")
    assert re.findall(r"^\| \[[ABC]\d .*?\]\((\w+\.md)\)", text, re.MULTILINE) == [
        path.name for path in CHAPTERS
    ]


def test_the_list_of_names_says_where_each_is_met_first():
    text = (LEARN / "index.md").read_text("utf-8")
    rows = re.findall(r"^\| (\[`jax\..*?) \| .*? \| ([ABC]\d) \|$", text, re.MULTILINE)
    assert len(rows) >= 7
    for names, where in rows:
        used = re.compile(
            "|".join(re.escape(name) for name in re.findall(r"`(jax[\w.]+)\(", names))
        )
        first = next(path for path in CHAPTERS if used.search(path.read_text("utf-8")))
        assert first.name.startswith(f"{where.lower()}_"), names
