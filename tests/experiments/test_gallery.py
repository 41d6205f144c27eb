"""The gallery: what pages say, that nothing on them is missing, and what bad input does."""

import html
import json
import math
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from experiments import _catalog, _claims, _outputs
from tests.experiments.galleries import CLAIMS, FINDING, SCRIPTS, draw, make, report, write


@pytest.fixture
def results(tmp_path, monkeypatch):
    return make(tmp_path, monkeypatch)


class Reader(HTMLParser):
    """Collects links, images and words, and fails on a tag that does not close its own."""

    def __init__(self, page):
        super().__init__()
        self.links, self.images, self.ids, self.open, self.words = [], [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        assert tag not in ("script", "link", "iframe")
        if tag not in ("meta", "img", "br", "source"):
            self.open.append(tag)
        self.links += [found[key] for key in ("href", "src", "srcset") if key in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.images.append(found)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_cards_stand_by_section_with_picture_headline_and_verdict(results):
    page = write(results)["index"]
    places = [
        page.index(words)
        for words in (
            "2 experiments,\n8 claims: 4 hold, 2 differ from the tutorials, 2 fail.",
            "<h2>A4 Initializers</h2>",
            '<a href="grows/index.html">It grows &amp; &lt;stays&gt;.</a>',
            '<img src="grows/thumbnail.png" alt="height in the end: off by 2e-15, threshold',
            '<span class="holds">holds</span> <span class="counts">4 claims: 2 hold, 1 differs',
            '<a href="falls/index.html">',
            "goes on from the tutorial",
            "<h2>Not run</h2>",
            "python -m experiments turns",
        )
    ]
    assert places == sorted(places)
    assert 'loading="lazy"' in page


def test_what_stopped_is_counted_where_something_did(results):
    assert "stopped with an error" not in write(results)["index"]
    fail(results / "grows")
    assert "2 fail; 1 stopped with an error or cannot be read." in write(results)["index"]


def test_a_page_asks_shows_and_says_what_was_found(results):
    page = write(results)["grows"]
    places = [
        page.index(words)
        for words in (
            "<h1>It grows &amp; &lt;stays&gt;.</h1>",
            "Does it grows, as <code>x_y</code> does?",
            'src="some_paths.png"',
            "<h2>Expected</h2>\n<p>A 50 % larger one.</p>",
            f"<h2>Found</h2>\n<p>{FINDING}</p>",
            "<h2>Why it matters</h2>\n<p>Trees do.</p>",
            "0.25, threshold ≥ 0.1",
            '<li class="main">height in the end<br><span class="numbers">off by 2e-15, threshold',
            '<span class="differs">differs from the original: that it is *none*</span>',
            "* may fail without failing the run.",
            'src="tree.svg"',
            "It grows by 2 * 3 a layer.",
            '<a href="https://doi.org/10.1137/0916069">',
            "x = 1 &lt; 2",
            "height: [1, 2]",
            ">Next: It falls &amp; &lt;stays&gt;.</a>",
        )
    ]
    assert places == sorted(places)


def plain(markdown):
    """Take the backslashes away that keep words from being markup."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


def test_markdown_asks_shows_and_says_the_same(results):
    pages = {name: plain(page) for name, page in write(results, "markdown").items()}
    places = [
        pages["grows"].index(words)
        for words in (
            "# It grows & <stays>.",
            "Does it grows, as `x_y` does?",
            f'```{{image}} images/grows/some_paths.webp\n:alt: "Some paths. {FINDING}"',
            "**Expected:** a 50 % larger one.",
            "**Found:** height in the end: off by 2e-15, threshold 0.5 ± 1e-13: holds.",
            "**Why it matters:** trees do.",
            "- height <of> it\\\n  0.25, threshold ≥ 0.1: holds\n",
            "width | of_it *",
            "it grows by 2 * 3 a layer.",
            "<https://doi.org/10.1137/0916069>",
            "`````{code-block} python\n",
            "height: [1, 2]",
        )
    ]
    assert places == sorted(places)
    assert "```python" not in "".join(pages.values())  # it would be run when pages are built
    assert pages.keys() == {"index", "claims", *SCRIPTS}
    assert "`python -m experiments turns` runs it." in pages["turns"]
    assert "\nclaims\nGrows <grows.md>\nFalls <falls.md>\nTurns <turns.md>\n" in pages["index"]
    assert r"| [grows](grows.md) | width \| of_it * | 0.25 | ≤ 0.1 | fails |" in pages["claims"]


def test_no_text_closes_the_fence_around_it(results):
    error = "Traceback\n```python\n:::::\n``````\nValueError: x"
    _outputs.write_json(report("grows", error=error), results / "grows")
    page = write(results, "markdown")["grows"]
    code = f"```````{{code-block}} text\n:force:\n\n{error}\n```````"
    assert f"::::::{{dropdown}} Where the last run stopped\n{code}\n::::::\n" in page


@pytest.mark.parametrize("elsewhere", [False, True])
def test_all_that_pages_link_to_is_there(results, elsewhere):
    draw(results / "grows" / "some_paths.dark.png", "black")
    (results / "grows" / "log.txt").touch()
    to = results.with_name("elsewhere") if elsewhere else results
    write(results, to=to)
    pages = list(to.rglob("*.html"))
    assert len(pages) == 4
    for path in pages:
        found = Reader(path.read_text("utf-8"))
        assert len(found.ids) == len(set(found.ids))
        for link in found.links:
            file, _, anchor = link.partition("#")
            if link.startswith("https://doi.org/"):
                continue
            assert (path.parent / file).exists(), link
            if anchor:
                other = (path.parent / file).resolve() if file else path
                assert f'id="{anchor}"' in other.read_text("utf-8")
        for image in found.images:
            assert image["alt"].endswith(FINDING)
            assert "." not in image["alt"].split()[0].removesuffix(".")
    assert 'src="some_paths.png"' in (to / "grows" / "index.html").read_text("utf-8")


def test_an_alternative_text_begins_with_the_title_of_the_drawing(results):
    file = results / "grows" / "some_paths.svg"
    file.write_text("<svg><title>All  go\ndown &amp; on.</title></svg>", encoding="utf-8")
    assert f'alt="All go down &amp; on. {FINDING}"' in write(results)["grows"]
    assert f':alt: "All go down & on. {FINDING}"' in write(results, "markdown")["grows"]


def test_images_of_markdown_are_there_and_small(results):
    draw(results / "grows" / "some_paths.dark.png", "black")
    to = results.with_name("as_markdown")
    pages = write(results, "markdown", to)
    images = re.findall(r"\{image\} (\S+)", "".join(pages.values()))
    assert len(images) == 4 + 2 + 1 + 1  # light and dark twice, and trees
    assert all((to / image).exists() for image in images)
    for page, ending in ((pages["index"], "png"), (pages["grows"], "webp")):
        options = r"\n:alt: .*\n:loading: lazy\n:class: only"
        assert re.search(rf"\.{ending}{options}-light\n", page)
        assert re.search(rf"\.dark\.{ending}{options}-dark\n", page)
    assert ":class:" not in pages["falls"].replace("dropdown", "")
    with Image.open(to / "images" / "grows" / "thumbnail.png") as small:
        assert (small.width, small.height, small.mode) == (400, 133, "P")
    with Image.open(to / "images" / "grows" / "some_paths.dark.webp") as small:
        assert small.format == "WEBP"
        assert small.width <= 800
        assert small.convert("L").getextrema()[1] < 10


def test_a_dark_picture_is_for_dark_pages(results):
    assert 'prefers-color-scheme: dark)" srcset' not in write(results)["grows"]
    draw(results / "grows" / "some_paths.dark.png", "black")
    pages = write(results)
    source = '<source media="(prefers-color-scheme: dark)" srcset="'
    assert f'{source}some_paths.dark.png">' in pages["grows"]
    assert f'{source}grows/thumbnail.dark.png">' in pages["index"]
    (results / "grows" / "some_paths.dark.png").unlink()
    assert source not in write(results)["index"]


def test_a_small_copy_follows_its_figure(results):
    to = results.with_name("as_html")
    write(results)
    small = to / "grows" / "thumbnail.png"
    first = small.read_bytes()
    write(results)
    assert small.read_bytes() == first
    draw(results / "grows" / "some_paths.png", "red")
    write(results)
    with Image.open(small) as image:
        assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


def test_a_page_of_a_script_that_is_gone_goes_with_it(results):
    write(results, "markdown")
    folder = results.with_name("as_markdown")
    (folder / "mine.md").write_text("# Mine\n", encoding="utf-8")
    (_catalog.FOLDER / "part" / "turns.py").unlink()
    pages = write(results, "markdown")
    assert pages.keys() == {"index", "claims", "grows", "falls", "mine"}


def put(text):
    return lambda folder: (folder / "result.json").write_text(text, encoding="utf-8")


def change(**changes):
    return lambda folder: _outputs.write_json(report("grows", **changes), folder)


def say(**changes):
    """Write a report that no run writes: `to_json` would mend it."""
    return lambda folder: put(json.dumps({**report("grows"), **changes}))(folder)


def claim(text="t", **changes):
    return {"text": text, "measured": 1.0, "threshold": "≥ 0", "holds": True, **changes}


def drop(*keys):
    def damage(folder):
        found = json.loads((folder / "result.json").read_text("utf-8"))
        put(json.dumps({key: found[key] for key in found if key not in keys}))(folder)

    return damage


def cut(name):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


def age(folder):
    """Make a report of the first version, which knew neither parts nor headlines."""
    found = json.loads((folder / "result.json").read_text("utf-8"))
    del found["part"]
    for claim in found["claims"]:
        del claim["headline"], claim["shown"]
    put(json.dumps(found))(folder)


def fail(folder):
    failure = {"error": "Traceback\nValueError: no <b>water", "claims": [], "figures": []}
    _outputs.write_failure(report("grows", **failure), folder)


def fail_at_first(folder):
    (folder / "result.json").unlink()
    fail(folder)


def fail_after_half(folder):
    fail(folder)
    cut("last_complete.json")(folder)


def empty(folder):
    for file in folder.iterdir():
        file.unlink()


def figures_alone(folder):
    (folder / "result.json").unlink()


def leavings(name):
    def damage(folder):
        empty(folder)
        (folder / name).touch()

    return damage


def folder_in_place_of(name):
    def damage(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def cut_dark(folder):
    draw(folder / "some_paths.dark.png")
    cut("some_paths.dark.png")(folder)


def flip(folder):
    content = bytearray((folder / "some_paths.png").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "some_paths.png").write_bytes(content)


CONTRADICTED = "A claim is said to hold that its number contradicts, and is shown as failing: t"
NO_TIME = "What the report calls its seconds is no time."
LONG = "long " * 100_000
DEEP = json.loads('{"a":' * 200 + "1" + "}" * 200)


BAD = {
    "cut in half": (cut("result.json"), "unreadable", "result.json cannot be read ("),
    "nothing in it": (put(""), "unreadable", "result.json cannot be read ("),
    "no JSON": (put("\x00\x01"), "unreadable", "result.json cannot be read ("),
    "too deep": (put("[" * 100_000), "unreadable", "result.json cannot be read ("),
    "a list": (put("[1]"), "unreadable", "result.json holds no report but a list."),
    "a number": (put("3"), "unreadable", "result.json holds no report but a int."),
    "an empty object": (put("{}"), "unreadable", "The report lists no claims."),
    "no report": (figures_alone, "unreadable", "result.json is missing: the run did not come to"),
    "an empty folder": (empty, "missing", "It has not been run"),
    "no claims": (drop("claims"), "unreadable", "The report lists no claims."),
    "claims of no list": (change(claims=3), "unreadable", "The report lists no claims."),
    "an empty list of claims": (change(claims=[]), "silent", "makes no claim"),
    "a bad claim": (
        change(claims=[{"text": 3}, CLAIMS[1].to_json()]),
        "holds",
        "One of the report's 2 claims cannot be read.",
    ),
    "bad claims": (
        change(claims=[7, {"text": "t", "measured": "much", "threshold": "", "holds": True}]),
        "unreadable",
        "2 of the report's 2 claims cannot be read.",
    ),
    "older": (age, "holds", "height <of> it: 0.25, threshold ≥ 0.1: holds."),
    "without figures": (drop("figures"), "holds", "does not say which figures were drawn."),
    "no figure": (change(figures=[]), "holds", "This experiment draws no figure."),
    "a missing figure with a drawing": (
        lambda folder: (folder / "some_paths.png").unlink(),
        "holds",
        'src="some_paths.svg"',
    ),
    "missing figures": (
        change(figures=["gone", "away", "tree"]),
        "holds",
        "Figures that are missing or cut short: gone, away.",
    ),
    "a cut figure": (
        cut("some_paths.png"),
        "holds",
        "A figure that is missing or cut short: some_paths.",
    ),
    "a figure of others": (
        change(figures=["../falls/some_paths"]),
        "holds",
        "A figure that is missing or cut short: ../falls/some_paths.",
    ),
    "figures of no text": (change(figures=[3, "tree"]), "holds", 'src="tree.svg"'),
    "odd values": (
        change(seconds="long", config=3, versions=[], numbers="none", description=None),
        "holds",
        "numbers\nnone",
    ),
    "failed": (fail, "error", "The last run stopped with an error: ValueError: no <b>water"),
    "failed after a good one": (fail, "error", "is from the last complete run."),
    "failed after a good one, shown": (fail, "error", FINDING),
    "failed at first": (fail_at_first, "error", "`python -m experiments grows` runs it again."),
    "failed after a torn one": (
        fail_after_half,
        "error",
        "last_complete.json cannot be read (",
    ),
    "edited": (
        change(description="It shrinks.\n\nClaim: it shrinks.\n"),
        "holds",
        "The script has been edited since this run; run",
    ),
    "infinite": (
        change(claims=[_claims.at_least("t", float("inf"), 0.0, headline=True).to_json()]),
        "holds",
        "t: inf, threshold ≥ 0: holds.",
    ),
    "a headline that fails": (
        change(claims=[_claims.at_least("t", -1.0, 0.0, headline=True).to_json()]),
        "fails",
        "t: -1, threshold ≥ 0: fails.",
    ),
    "leavings of JSON": (leavings("a.json"), "unreadable", "result.json is missing: the run"),
    "leavings of text": (leavings("a.txt"), "unreadable", "result.json is missing: the run"),
    "a folder in place of the report": (
        folder_in_place_of("result.json"),
        "unreadable",
        "result.json cannot be read (",
    ),
    "a folder in place of the log": (folder_in_place_of("log.txt"), "holds", FINDING),
    "a folder in place of a figure": (
        folder_in_place_of("some_paths.png"),
        "holds",
        'src="some_paths.svg"',
    ),
    "a claim that NaN holds": (
        say(claims=[claim(measured=math.nan, headline=True), claim("u")]),
        "fails",
        CONTRADICTED,
    ),
    "a claim that infinity holds": (
        say(claims=[claim(measured="inf", threshold="≤ 1")]),
        "fails",
        CONTRADICTED,
    ),
    "a claim beyond numbers": (
        say(claims=[claim(measured=10**400), claim("u")]),
        "holds",
        "One of the report's 2 claims cannot be read.",
    ),
    "a claim of no words": (
        say(claims=[claim(" "), claim("u")]),
        "holds",
        "One of the report's 2 claims cannot be read.",
    ),
    "a claim that is required in words": (
        say(claims=[claim(required="false", holds=False), claim("u")]),
        "holds",
        "One of the report's 2 claims cannot be read.",
    ),
    "a claim twice": (
        say(claims=[claim(), claim(measured=2.0), claim("u")]),
        "holds",
        "The report states a claim 2 times: t",
    ),
    "two headlines": (
        say(claims=[claim("u"), claim(headline=True), claim("v", headline=True)]),
        "holds",
        "The report has 2 claims for its headline; the first one is taken.",
    ),
    "claims of a run that stopped": (
        say(error="ValueError: no water", figures=[]),
        "error",
        "Its claims were judged before it stopped.",
    ),
    "an error without words": (say(error=" \n"), "error", "The report does not say which."),
    "an error of no text": (say(error=[1]), "error", "The report does not say which."),
    "negative seconds": (say(seconds=-1), "holds", NO_TIME),
    "seconds that are NaN": (say(seconds=math.nan), "holds", NO_TIME),
    "infinite seconds": (say(seconds=math.inf), "holds", NO_TIME),
    "seconds beyond floats": (say(seconds=10**400), "holds", NO_TIME),
    "true seconds": (say(seconds=True), "holds", NO_TIME),
    "figures elsewhere": (
        say(figures=["../falls/some_paths", "/etc/passwd", "..", "", "\0", "\ud800", "a" * 5000]),
        "holds",
        "Figures that are missing or cut short: ../falls/some_paths, /etc/passwd, ..,",
    ),
    "a figure for the dark that is cut": (cut_dark, "holds", 'src="some_paths.png"'),
    "a figure that is damaged": (
        flip,
        "holds",
        "A figure that is missing or cut short: some_paths.",
    ),
    "long texts": (
        say(
            claims=[claim(LONG, threshold=LONG, shown=LONG, original=LONG)] * 2,
            description=LONG,
            error=f"{LONG}the end",
            numbers={LONG: LONG},
            figures=[LONG],
        ),
        "error",
        "the end",
    ),
    "numbers too deep": (say(numbers=DEEP), "holds", "a: …"),
    "another that fails": (
        change(claims=[CLAIMS[1].to_json(), _claims.at_least("t", float("nan"), 0.0).to_json()]),
        "fails",
        "nan, threshold ≥ 0",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_a_sentence_on_the_page(results, bad):
    damage, kind, sentence = BAD[bad]
    damage(results / "grows")
    pages = write(results)
    for page in pages.values():
        Reader(page)
        assert "<b>" not in page
    if kind == "missing":
        assert "grows" not in pages
        assert "python -m experiments grows" in pages["index"]
    else:
        assert sentence in html.unescape(re.sub(r"</?code>", "`", pages["grows"]))
        assert f'<span class="{kind}">' in pages["grows"]
        assert 'href="grows/index.html"' in pages["index"]
    assert FINDING in pages["falls"]  # which nothing is wrong with
    assert max(map(len, pages.values())) < 200_000
    pages = write(results, "markdown")
    assert max(map(len, pages.values())) < 200_000
    assert pages.keys() == {"index", "claims", *SCRIPTS}
    assert "**holds**" in pages["falls"]


@pytest.mark.parametrize("folder", ["results", "nowhere", "empty"])
@pytest.mark.parametrize("form", ["html", "markdown"])
def test_without_results_the_gallery_says_how_to_make_them(results, folder, form):
    place = results if folder == "results" else results.with_name(folder)
    if folder == "results":
        for name in ("grows", "falls"):
            empty(results / name)
    elif folder == "empty":
        place.mkdir()
    pages = write(place, form)
    assert "0 claims: none" in pages["index"]
    for name in SCRIPTS:
        page = pages["index" if form == "html" else name]
        assert f"python -m experiments {name}" in page


def test_results_of_a_script_that_is_gone_are_shown(results):
    (_catalog.FOLDER / "part" / "grows.py").unlink()
    page = write(results)["grows"]
    assert "There is no script of this name any more." in page
    assert "<h1>It grows &amp; &lt;stays&gt;.</h1>" in page
    assert FINDING in page


def test_every_experiment_has_a_page_without_results(tmp_path):
    pages = write(tmp_path / "nowhere", "markdown", tmp_path / "gallery")
    assert pages.keys() == {"index", "claims", *_catalog.find()}
    for name in _catalog.find():
        assert f"`python -m experiments {name}` runs it" in pages[name]
        assert f":link: {name}\n" in pages["index"]
