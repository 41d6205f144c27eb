"""The page's hypergradients against the library's modes, and the widget by keyboard."""

import math

import pytest

from docs.play.golden import hypergradient as golden
from docs.play.inline import build

TOLERANCE = 1e-9
NAMES = ("value", "unroll", "truncate", "implicit")


@pytest.fixture(scope="module")
def rows():
    return golden.hypergradients()


def distance(page, rows):
    """Largest difference to the library, relative where numbers are large."""
    call = (
        "rows => rows.map(({ problem, logPenalty, steps }) => "
        f"play.hypergradient({{ problem, logPenalty, steps, k: {golden.K} }}))"
    )
    found = page.evaluate(call, rows)
    return max(
        abs(mine[name] - row[name]) / max(1.0, abs(row[name]))
        for mine, row in zip(found, rows, strict=True)
        for name in NAMES
    )


def test_all_three_ways_are_the_library_s(open_page, rows):
    assert distance(open_page("#hypergradient"), rows) < TOLERANCE


def test_unrolling_meets_the_optimality_condition_as_fast_as_the_descent_converges(rows):
    for row in rows:
        problem, apart = row["problem"], abs(row["unroll"] - row["implicit"])
        slowest = min(h for h, w in zip(problem["curvature"], problem["weight"], strict=True) if w)
        left = (1 - golden.RATE * (slowest + math.exp(row["logPenalty"]))) ** row["steps"]
        # each step adds its own source to the tangent: T rho^T, and numbers of order ten
        assert apart < 10 * row["steps"] * left + 1e-12


BROKEN = {
    "penalty left out of the step": ("+ penalty * x)),\n    tangent", ")),\n    tangent"),
    "tangent without its source": ("+ penalty * y[i])),", ")),"),
    "truncation one step late": ("i >= steps - k ?", "i > steps - k ?"),
    "implicit with the wrong sign": ("(-penalty * y[i] * e)", "(penalty * y[i] * e)"),
    "implicit without the penalty": ("/ (p.curvature[i] + penalty)));", "/ p.curvature[i]));"),
    "outer slope without its weight": ("weight[i] * (x - val", "2 * (x - val"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=BROKEN)
def test_a_broken_formula_is_noticed(open_page, rows, tmp_path, old, new):
    def edit(name, text):
        if name != "numerics/hypergradient.js":
            return text
        assert old in text
        return text.replace(old, new)

    file = tmp_path / "broken.html"
    file.write_text(build(edit), encoding="utf-8")
    found = distance(open_page("#hypergradient", file=file), rows)
    assert not found < 1e3 * TOLERANCE  # NaN is noticed too


def test_sentence_says_whether_the_descent_has_converged(open_page):
    page = open_page("#hypergradient&steps=5&guess=skip")
    assert "has not converged" in page.locator(".says").inner_text()
    page.get_by_role("button", name="Let it converge").click()
    page.wait_for_function("document.querySelector('.says').textContent.includes('has converged')")
    result = page.evaluate(
        "(({ unroll, implicit, exact }) => ({ unroll, implicit, exact }))(play.now().result)"
    )
    assert result["unroll"] == pytest.approx(result["exact"], abs=1e-6)
    assert result["implicit"] == pytest.approx(result["exact"], abs=1e-6)
    assert page.faults == []


def test_legend_keeps_the_slopes_until_the_guess(open_page):
    page = open_page("#hypergradient")
    assert "slope" not in page.locator(".legend").inner_text()
    page.get_by_label("That of unrolling").check()
    page.get_by_role("button", name="Check my guess").click()
    page.wait_for_function("document.querySelector('.legend').textContent.includes('slope')")
    assert "right" in page.locator(".guess .verdict").inner_text()


def test_point_moves_by_arrow_keys_along_the_curve(open_page):
    page = open_page("#hypergradient&z=0&steps=20&guess=skip")
    page.get_by_role("slider", name="z: arrow keys move it").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("play.now().state.z > 0")
    assert page.evaluate("play.now().state.z") == pytest.approx(0.065)  # a hundredth of the view
    assert page.faults == []


def test_nonsense_in_the_address_still_draws(open_page):
    page = open_page("#hypergradient&guess=skip")
    for fragment in ("z=NaN", "z=1e30", "z=-1e30", "steps=-1", "steps=1e9", "k=0", "problem=none"):
        page.evaluate("text => { location.hash = text; }", f"#hypergradient&{fragment}")
        page.wait_for_function("location.hash.includes('guess')")
        result = page.evaluate("play.now().result")
        assert all(math.isfinite(result[name]) for name in NAMES), fragment
    assert page.faults == []
