"""The frame of the interactive page: one file, its state in the address, keys, light and dark."""

import json
import re

import pytest

from docs.play.inline import HERE, LARGEST, build

WIDGETS = sorted(
    re.search(r'^  id: "(\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE)[1]
    for path in (HERE / "widgets").glob("*.js")
    if "  id: " in path.read_text(encoding="utf-8")
)
NONSENSE = [
    "#nothing",
    "#%&=;,",
    "#descent&surface=%E0%A4%A&paths=;;;;;;;;&steps=1e9",
    "#descent&x=NaN&y=Infinity&steps=-3&unknown=1&constructor=2&__proto__=3",
    "#descent&paths=sgd,0;momentum,-1;adam,1e30;newton,NaN&guess=7",
    "#descent&paths=,,,,,,,,,&surface=&x=&y=",
    "#descent&x=1e300&y=-1e300&surface=beale&guess=skip",
    "#descent&surface=quadratic&l1=-1&l2=0&guess=skip",
    "#descent&steps=0&guess=skip",
    "#momentum&l1=NaN&l2=-5&rate=-1&decay=1&steps=2.5",
    "#momentum&rate=1e30&decay=-1&guess=skip",
    "#momentum&rate=0&l1=1e9&l2=1e-6&guess=skip",
    "#initialization&weight=NaN&bias=-1&depth=1e30&width=0.5&seed=-1&activation=constructor",
    "#initialization&weight=1e30&bias=1e30&depth=1000&width=256&activation=sigmoid&guess=skip",
    "#initialization&weight=0&bias=0&depth=1&width=1&seed=1e9&guess=skip",
    "#backpropagation&graph=__proto__&inputs=,&step=NaN&guess=3",
    "#hypergradient&problem=three&z=Infinity&steps=1e30&k=-1",
]


def arrive(page, fragment):
    """Change the address of an open page, and wait until the page has taken it in."""
    page.evaluate(
        """(hash) => new Promise((done) => {
          if (location.hash === hash) return done();
          addEventListener("hashchange", () => setTimeout(done), { once: true });
          location.hash = hash;
        })""",
        fragment,
    )


def state(page):
    return page.evaluate("play.now().state")


def said(page):
    """Return what is spoken, once it is: after a pause in the changes."""
    page.wait_for_function("() => location.hash.includes('guess=') && !play.now().result.isPartial")
    page.wait_for_timeout(400)
    return page.locator(".says").inner_text()


EXTREME = [
    "#initialization&weight=0.6&bias=0&depth=40",
    "#initialization&weight=3&bias=0&depth=100",
    "#initialization&activation=relu&weight=1e6&bias=0&depth=60",
    "#initialization&activation=tanh&weight=0.9&bias=0.9&depth=40",
    "#momentum&rate=1e30&decay=-1",
    "#momentum&rate=1e-6&l1=1e-3&l2=1e6",
    "#hypergradient&z=-20&steps=1",
]


@pytest.mark.parametrize("fragment", [*(f"#{widget}" for widget in WIDGETS), *EXTREME])
def test_numbers_and_apostrophes_are_those_of_print(open_briefly, fragment):
    page = open_briefly(f"{fragment}&guess=skip")
    said(page)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    labels = "[...document.querySelectorAll('[aria-label]')].map((e) => e.ariaLabel).join(' ')"
    text = page.locator("body").inner_text() + page.evaluate(labels)
    assert re.findall(r".{0,20}(?:'|\d[eE][+-]?\d).{0,20}", text) == []


def test_page_is_one_small_file_that_loads_nothing():
    page = build()
    assert len(page.encode()) <= LARGEST
    assert page == build()
    assert not re.search(r"\bsrc=|\bimport\b ?[({*]|@import|url\(|https?://(?!www\.w3\.org)", page)


def test_inliner_refuses_what_it_does_not_know():
    def default_export(name, text):
        return text + "\nexport default 1;\n" if name == "numerics/paths.js" else text

    with pytest.raises(
        ValueError, match=r"paths.js has a line that is not known here: 'export def"
    ):
        build(default_export)

    def circle(name, text):
        line = 'import { path } from "./paths.js";\n'
        return line + text if name == "numerics/surfaces.js" else text

    with pytest.raises(ValueError, match="Modules import one another"):
        build(circle)

    with pytest.raises(ValueError, match=f"at most {LARGEST} bytes"):
        build(lambda name, text: text + " " * (LARGEST if name == "style.css" else 0))


@pytest.mark.parametrize("path", sorted((HERE / "numerics").glob("*.js")), ids=lambda p: p.name)
def test_numerics_know_no_page(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(document|window|globalThis)\b|\.\./frame", text)


@pytest.mark.parametrize("widget", WIDGETS)
def test_widget_asks_before_it_shows(open_briefly, widget):
    page = open_briefly(f"#{widget}")
    question = page.locator(".guess legend").first.inner_text()
    assert state(page)["guess"] == "none"
    assert question in said(page)
    options = page.locator(".guess input[type=radio]")
    assert options.count() >= 2
    options.first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")  # sends the form
    page.wait_for_function("() => document.querySelector('.guess .verdict').textContent")
    verdict = page.locator(".guess .verdict").inner_text()
    assert verdict.startswith("You guessed “")
    assert state(page)["guess"] == "0"
    assert question not in said(page)
    again = page.get_by_role("button", name="Ask me again")
    assert again.evaluate("node => node === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement?.id.endsWith('guess-0')")
    assert page.faults == []


@pytest.mark.parametrize("widget", WIDGETS)
def test_what_is_asked_is_what_is_shown(open_briefly, widget):
    page = open_briefly(f"#{widget}")
    asked = state(page)
    page.locator("input[type=number]:visible").first.fill("0.5")
    moved = state(page)
    assert moved["guess"] == "skip"
    assert {**moved, "guess": "none"} != asked
    page.get_by_role("button", name="Ask me again").click()
    assert state(page) == asked
    # an address of other settings without a guess wants to see them, as who moves something does
    moved_hash = said(page) and page.evaluate(
        "(patch) => { play.change(patch); return new Promise((done) => setTimeout(() => "
        "done(location.hash), 600)); }",
        moved,
    )
    again = open_briefly(moved_hash.replace("guess=skip", "guess=none"))
    assert state(again) == moved


@pytest.mark.parametrize("widget", WIDGETS)
def test_right_answer_is_one_of_the_options(open_briefly, widget):
    page = open_briefly(f"#{widget}")
    count = page.locator(".guess input[type=radio]").count()
    verdicts = []
    for i in range(count):
        page.evaluate("(i) => play.change({ guess: String(i) })", i)
        page.wait_for_function(
            "(i) => document.querySelector('.guess .verdict').textContent.includes("
            "`You guessed “${document.querySelectorAll('.guess .option label')[i].textContent}”`)",
            arg=i,
        )
        verdicts.append(page.locator(".guess .verdict").inner_text())
    right = [i for i, verdict in enumerate(verdicts) if "”: right." in verdict]
    assert len(right) == 1
    answer = page.locator(".guess .option label").nth(right[0]).text_content()
    others = verdicts[: right[0]] + verdicts[right[0] + 1 :]
    assert all(f"”: not so; it is “{answer}”." in verdict for verdict in others)


@pytest.fixture(scope="module")
def page(open_page):
    return open_page()


@pytest.mark.parametrize("fragment", NONSENSE)
def test_nonsense_in_the_address_is_mended_and_said(page, fragment):
    arrive(page, fragment)
    page.evaluate("play.change({ guess: 'skip' })")
    said(page)
    assert page.faults == []
    json.dumps(state(page), allow_nan=False)  # finite numbers only
    assert page.evaluate("({}).constructor === Object")


@pytest.mark.parametrize(
    ("fragment", "note"),
    [
        ("#nothing", "The address names “nothing”, which is nothing here."),
        ("#descent&x=NaN", "Start w₁: “NaN” is no finite number; 5 is used."),
        ("#descent&steps=1e9", "Steps: “1e9” is above 2000; 2000 is used."),
        ("#descent&paths=newt,1", "Optimizer: “newt” is not known; sgd is used."),
        ("#descent&paths=sgd,1,2", "Decay β: “2” is above 0.999999999; 0.999999999 is used."),
        ("#momentum&rate=NaN", "Rate η: “NaN” is no finite number; 0.0198 is used."),
        ("#momentum&decay=1", "Decay β: “1” is above 0.999999; 0.999999 is used."),
        ("#momentum&l2=-5", "Curvature λ₂: “-5” is below 0.000001; 0.000001 is used."),
        ("#initialization&depth=0", "Depth: “0” is below 1; 1 is used."),
        ("#initialization&depth=1001", "Depth: “1001” is above 1000; 1000 is used."),
        ("#initialization&depth=2.5", "Depth: “2.5” is not whole; 3 is used."),
        (
            "#initialization&weight=1e30",
            "Weight variance: “1e30” is above 1000000; 1000000 is used.",
        ),
        ("#initialization&bias=-1", "Bias variance: “-1” is below 0; 0 is used."),
        (
            "#backpropagation&inputs=1,x",
            "Inputs: “1,x” are not finite numbers; those of the example",
        ),
        ("#backpropagation&step=-1", "Step: “-1” is below 0; 0 is used."),
        ("#hypergradient&z=NaN", "Hyper-parameter z: “NaN” is no finite number; -1 is used."),
        ("#hypergradient&steps=1e30", "Inner descent T: “1e30” is above 1000; 1000 is used."),
        ("#descent&unknown=1", "The address has “unknown=1”, which is nothing here."),
    ],
)
def test_what_is_mended_is_named(open_briefly, fragment, note):
    assert note in said(open_briefly(fragment))


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("sgd,0", "SGD at rate 0 ends at loss 2.04"),
        ("sgd,-1", "SGD at rate −1 ends at loss"),
        ("sgd,1e30", "SGD at rate 10³⁰ "),
        ("heavy_ball,1e300", "heavy ball at rate 10³⁰⁰ "),
    ],
)
def test_strange_rates_are_walked_and_told(open_briefly, paths, words):
    page = open_briefly(f"#descent&paths={paths}&guess=skip")
    assert words in said(page)
    assert page.faults == []


def test_a_path_that_leaves_the_numbers_is_told(open_briefly):
    page = open_briefly("#descent&surface=beale&x=1&y=1&paths=sgd,1&guess=skip")
    assert "leaves the finite numbers at step" in said(page)
    assert page.faults == []


def test_a_start_outside_of_the_picture_is_told_and_can_be_grasped(open_briefly):
    page = open_briefly("#descent&x=100&y=-50&guess=skip")
    assert "outside of the picture" in said(page)
    grip = page.locator(".grip").bounding_box()
    frame = page.locator(".frame").first.bounding_box()
    middle = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    assert frame["x"] <= middle[0] <= frame["x"] + frame["width"]
    assert frame["y"] <= middle[1] <= frame["y"] + frame["height"]


def test_state_comes_back_from_the_address_to_the_bit(open_briefly):
    numbers = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -123456789.12345679]
    page = open_briefly("#descent")
    for a, b in zip(numbers, reversed(numbers), strict=True):
        runs = [{"optimizer": "adam", "rate": a, "decay": 1 / 3, "b2": 0.1}] * 2
        page.evaluate("(patch) => play.change(patch)", {"x": a, "y": b, "paths": runs})
        before = state(page)
        said(page)
        again = open_briefly(page.evaluate("location.hash"))
        assert state(again) == before
        assert again.evaluate("location.hash") == page.evaluate("location.hash")
    page.evaluate("play.change({ x: -0 })")
    said(page)
    again = open_briefly(page.evaluate("location.hash"))
    assert again.evaluate("Object.is(play.now().state.x, -0)")


def test_start_is_dragged_and_moved_by_keys(open_briefly):
    page = open_briefly("#descent&guess=skip", viewport={"width": 1280, "height": 1000})
    page.locator(".grip").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    page.wait_for_function("() => play.now().result.runs[0].points[0][1] === 3")
    assert (state(page)["x"], state(page)["y"]) == (4.85, 3)
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => play.now().result.runs[0].points[0][1] === 5")
    assert (state(page)["x"], state(page)["y"]) == (5, 5)
    grip = page.locator(".grip").bounding_box()
    x, y = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 120, y + 60, steps=4)
    page.mouse.up()
    moved = state(page)
    assert moved["x"] < 4
    assert moved["y"] < 4.5
    page.wait_for_function("(x) => play.now().result.runs[0].points[0][0] === x", arg=moved["x"])


def test_paths_are_added_and_removed_by_keys(open_briefly):
    page = open_briefly("#descent&guess=skip")
    add = page.get_by_role("button", name="Add a path")
    add.focus()
    page.keyboard.press("Enter")
    assert len(state(page)["paths"]) == 4
    page.wait_for_function("() => document.querySelectorAll('.items fieldset').length === 4")
    page.wait_for_function("() => document.activeElement.id === 'descent-paths-3-optimizer'")
    assert add.is_hidden()
    page.get_by_role("button", name="Remove path 1").press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.items fieldset').length === 3")
    assert [p["optimizer"] for p in state(page)["paths"]][:2] == ["momentum", "adam"]


def test_another_surface_brings_its_start_and_rates(open_briefly):
    page = open_briefly("#descent&guess=skip")
    page.get_by_label("Surface", exact=True).select_option("rosenbrock")
    found = state(page)
    assert found["y"] == 1
    assert [p["rate"] for p in found["paths"]] == [1e-3, 5e-3, 0.1]
    page.locator("#descent-paths-0-optimizer").select_option("newton")
    assert state(page)["paths"][0]["rate"] == 1


@pytest.mark.parametrize("widget", WIDGETS)
def test_controls_are_named_and_nothing_scrolls_sideways_on_a_phone(open_briefly, widget):
    page = open_briefly(f"#{widget}&guess=skip", viewport={"width": 320, "height": 640})
    said(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select')].filter((x) => "
        "!x.labels.length && !x.ariaLabel).map((x) => x.outerHTML)"
    )
    assert unnamed == []
    alts = page.locator("canvas").evaluate_all("all => all.map((c) => c.ariaLabel)")
    assert all(len(alt) > 20 for alt in alts)


@pytest.mark.parametrize("widget", WIDGETS)
def test_nothing_moves_by_itself_where_less_motion_is_asked_for(open_briefly, widget):
    page = open_briefly(f"#{widget}&guess=skip", reduced_motion="reduce")
    assert page.evaluate("document.getAnimations().length") == 0
    said(page)
    before = page.evaluate("play.now().frames.length")
    page.wait_for_timeout(200)
    assert page.evaluate("play.now().frames.length") == before


def test_a_still_figure_stands_in_where_there_is_no_javascript(open_briefly):
    page = open_briefly(java_script_enabled=False)
    figure = page.locator("noscript svg")
    assert figure.is_visible()
    assert page.locator("noscript svg polyline").count() > 10
    assert "needs JavaScript" in page.locator("main").inner_text()


def test_colours_follow_light_and_dark(open_briefly):
    page = open_briefly("#descent&guess=skip", color_scheme="light")
    pixel = (
        "() => [...document.querySelector('canvas').getContext('2d')"
        ".getImageData(150, 60, 1, 1).data].slice(0, 3).reduce((a, b) => a + b)"
    )
    light = page.evaluate(pixel)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"() => ({pixel})() < {light} / 2")


def test_momentum_and_adam_arrive_in_the_ravine_and_sgd_does_not(open_briefly):
    """The library's own claim, `experiments/optimization/ravine.py`."""
    page = open_briefly("#descent")
    page.get_by_label("Momentum and Adam, but not SGD").check()
    page.get_by_role("button", name="Check my guess").click()
    page.wait_for_function("() => document.querySelector('.guess .verdict').textContent")
    assert ": right." in page.locator(".guess .verdict").inner_text()


def test_question_of_descent_asks_what_its_answer_measures(open_briefly):
    """SGD's very last loss is below 0.1, the mean of its last 20 is not."""
    page = open_briefly("#descent")
    question = page.locator(".guess legend").first.inner_text()
    assert "last 20 losses average below 0.1" in question
    page.evaluate("play.change({ guess: '2' })")
    page.wait_for_function("() => document.querySelector('.guess .verdict').textContent")
    verdict = page.locator(".guess .verdict").inner_text()
    assert "means of their last 20 losses" in verdict
    losses = page.evaluate("play.now().result.runs[0].values")
    assert losses[-1] < 0.1 < sum(losses[-20:]) / 20
    assert f"its last loss is {losses[-1]:.3g}, but the one before it {losses[-2]:.3g}" in verdict
    assert "so one loss does not count" in verdict


def test_looks_of_paths_are_told_apart_in_the_legend(open_briefly):
    page = open_briefly("#descent&paths=sgd;momentum;adam;newton&guess=skip")
    said(page)
    for place in (".legend", ".items"):
        looks = page.locator(f"{place} svg").evaluate_all("all => all.map((s) => s.outerHTML)")
        assert len(looks) == len(set(looks)) == 4
