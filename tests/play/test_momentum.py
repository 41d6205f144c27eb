"""What *Step and momentum* says of good, bad and degenerate numbers, and its point by keyboard."""

import math

import pytest

from docs.play.inline import bundle


@pytest.fixture(scope="module")
def page(open_page):
    return open_page("#momentum")


def told(page, fragment):
    """Return the sentence at a fragment, which is there as soon as the page is."""
    address = page.url.split("#")[0]
    page.goto("about:blank")
    page.goto(f"{address}#momentum&{fragment}&guess=skip")
    return page.locator(".says").inner_text()


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        ("rate=0", "the flat direction stands still (factor 1), the steep one stands still"),
        ("rate=0&decay=0.999999&form=heavy_ball", "stands still (factor 1): it does not converge"),
        ("rate=1e-300", "the flat direction stands still (factor 1)"),
        ("rate=-1", "runs away uphill (factor 2), the steep one runs away uphill (factor 101)"),
        ("rate=-1&decay=0.9", "runs away uphill (factor 1.316)"),
        ("rate=1e30", "zig-zags away (factor 10³⁰), the steep one zig-zags away (factor 10³²)"),
        ("rate=1e308&l2=1e9", "zig-zags away (factor infinite): it does not converge"),
        ("rate=0.02", "the steep one zig-zags for ever (factor 1): it does not converge"),
        ("rate=0.0198", "direction creeps (factor 0.9802), the steep one zig-zags (factor 0.98)"),
        ("rate=1&decay=0.999999", "decay 0.999999 the flat direction swings (factor 0.9999995)"),
        ("rate=1&l2=1", "every direction arrives in one step (factor 0): it takes one step in all"),
        ("rate=0.5&l2=1", "every direction creeps (factor 0.5): it takes 3.32 steps a digit"),
        ("l1=5&l2=5", "best of all are rate 0.2 and decay 0 (one step in all)"),
        (
            "l1=100&l2=1&rate=0.005",
            "the flat direction creeps (factor 0.995), the steep one creeps",
        ),
        ("l1=1e-6&l2=1e9", "and decay 0.99999987"),
    ],
)
def test_sentence_fits_the_numbers(page, fragment, words):
    assert words in told(page, fragment)
    assert page.faults == []


def simulated(form, rate, decay, steps=400):
    """Return the mean factor a step of the iterates' own length, over the second half."""
    own = 1 - decay if form == "ema" else 1
    w, m, logs = 1.0, 0.0, []
    for _ in range(steps):
        m = own * w + decay * m
        w -= rate * m
        size = math.hypot(w, m)
        w, m = w / size, m / size
        logs.append(math.log(size))
    return math.exp(sum(logs[steps // 2 :]) / (steps - steps // 2))


@pytest.mark.parametrize("form", ["ema", "heavy_ball"])
@pytest.mark.parametrize("rate", [-0.3, 0, 1e-9, 0.01, 0.4, 1.7, 2.5, 9])
@pytest.mark.parametrize("decay", [0, 0.3, 0.9])
def test_manner_and_factor_are_those_of_the_iterates(page, form, rate, decay):
    direction = {"form": form, "rate": rate, "decay": decay, "curvature": 1}
    numerics = bundle("numerics/momentum.js")
    manner, factor = page.evaluate(
        f"(d) => {{ const m = {numerics}; return [m.manner(d), m.factor(d)]; }}", direction
    )
    seen = simulated(form, rate, decay)
    # complex roots turn: where in the turn the ends lie is lost over 200 steps, to a 200th of ln 20
    assert factor == pytest.approx(seen, rel=0.02)
    grows = manner in ("zig-zags away", "runs away uphill")
    assert grows == (seen > 1 + 1e-6), manner
    assert (manner == "stands still") == (rate == 0)


def test_point_moves_by_parts_of_a_logarithmic_axis_and_comes_in_from_outside(page):
    told(page, "rate=0.02&decay=0.5")
    page.locator(".grip").focus()
    view = math.log10(600 / 0.03)

    def after(key):
        before = page.evaluate("play.now().frames.length")
        page.keyboard.press(key)
        page.wait_for_function("(n) => play.now().frames.length > n", arg=before)
        return page.evaluate("[play.now().state.rate, play.now().state.decay]")

    assert after("ArrowLeft") == pytest.approx([0.02 / 10 ** (view / 100), 0.5])
    assert after("ArrowRight") == pytest.approx([0.02, 0.5])
    assert after("ArrowUp") == pytest.approx([0.02, 0.5099])
    for outside, edge in (("0", 0.03 / 100), ("-3", 0.03 / 100), ("1e30", 6.0)):
        told(page, f"rate={outside}&decay=0.5")
        page.locator(".grip").focus()
        inwards = "ArrowLeft" if edge > 1 else "ArrowRight"
        step = 10 ** (view / 100 * (-1 if edge > 1 else 1))
        assert after(inwards) == pytest.approx([edge * step, 0.5])


def test_a_click_at_the_left_end_is_a_small_rate_and_not_none(page):
    told(page, "rate=0.02&decay=0.5")
    box = page.locator("canvas").first.bounding_box()
    page.mouse.click(box["x"] + 80, box["y"] + 100)
    assert 0.0003 < page.evaluate("play.now().state.rate") < 0.001
