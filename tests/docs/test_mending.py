"""What is mended in the pages on their way out."""

from docs._ext.mending import shorter


def test_lines_begin_at_their_margin_but_for_code():
    code = "<pre>def f():\n    return 1\n</pre>"
    script = "<script>\n  if (a) {\n    b()\n  }</script>"
    page = f"<div>\n    <p>some\n\n   words</p>\n  {code}\n  {script}\n   <pre>\n  x</pre></div>\n"
    assert shorter(page) == (
        f"<div>\n<p>some\nwords</p>\n{code}\n{script}\n<pre>\n  x</pre></div>\n"
    )


def test_a_second_pass_changes_nothing():
    page = shorter("<p>\n  a\n   <pre>\n   b</pre>\n   c</p>")
    assert shorter(page) == page


def test_comments_go_but_for_those_in_code_and_scripts():
    page = "<p>a</p>\n<!-- said\nto nobody -->\n<p>b</p>\n<pre><!-- shown --></pre>\n"
    assert shorter(page) == "<p>a</p>\n<p>b</p>\n<pre><!-- shown --></pre>\n"


def test_words_in_code_keep_the_colours_that_they_have():
    name, blank = '<span class="n">x</span>', '<span class="w"> </span>'
    keyword = '<span class="k">def</span>'
    assert shorter(f"<pre>{keyword}{blank}{name}</pre>") == f"<pre>{keyword} x</pre>"
    assert shorter(f"<p>{name}</p>") == f"<p>{name}</p>"
