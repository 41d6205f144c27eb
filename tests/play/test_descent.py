"""The page's descent against the library's, in float64: functions, steps, paths, closed forms."""

import numpy as np
import pytest

from docs.play.golden import descent as golden
from docs.play.inline import bundle
from jaxopt_tut.plotting import palette, style

EPS = np.finfo(float).eps
STEP_TOLERANCE = 1e-12
PATH_TOLERANCE = 1e-9
PATHS = "numerics/paths.js"


@pytest.fixture(scope="module")
def library():
    return golden.collect()


@pytest.fixture(scope="module")
def blank(browser):
    return browser.new_page()


def evaluate(page, numerics, call, argument):
    """Call a function of a module; what is not finite comes back as a text that float reads."""
    return page.evaluate(
        f"(argument) => {{ const m = {numerics}; return ({call})(argument); }}", argument
    )


def worst(errors):
    """Return the largest error; what is no number is the largest."""
    errors = np.asarray(errors, float)
    return float(np.where(np.isnan(errors), np.inf, errors).max())


def function_errors(page, numerics, entry):
    found = evaluate(
        page,
        numerics,
        """({ surface, curvatures, points }) => {
          const f = surface === "quadratic" ? m.quadratic(curvatures) : m.surfaces[surface];
          return { ...f, values: points.map(f.value), gradients: points.map(f.gradient),
                   hessians: points.map(f.hessian) };
        }""",
        {key: entry[key] for key in ("surface", "curvatures", "points")},
    )
    hessians = np.reshape(entry["hessians"], (-1, 4))[:, [0, 1, 3]]
    errors = {}
    for name, ours, theirs in (
        ("values", found["values"], np.asarray(entry["values"])[:, None]),
        ("gradients", found["gradients"], np.asarray(entry["gradients"])),
        ("hessians", found["hessians"], hessians),
    ):
        sizes = np.linalg.norm(theirs, axis=1)
        apart = np.linalg.norm(np.reshape(ours, theirs.shape) - theirs, axis=1)
        # terms of up to the largest size on the surface cancel, and tanh itself is not the same
        # to the last bit in both: that is lost whatever the order of the operations
        lost = 8 * EPS * sizes.max() if name == "hessians" else 0
        errors[name] = worst(np.maximum(apart - lost, 0) / sizes)
    return found, errors


@pytest.mark.parametrize("index", range(len(golden.SURFACES)), ids=list(golden.SURFACES))
def test_functions_and_their_derivatives_are_the_library_s(blank, library, index):
    entry = library["functions"][index]
    found, errors = function_errors(blank, bundle("numerics/surfaces.js"), entry)
    assert max(errors.values()) <= STEP_TOLERANCE, errors
    assert found["start"] == entry["start"]
    assert found["domain"] == entry["domain"]
    np.testing.assert_allclose(
        np.reshape(found["minima"], (-1, 2)), np.reshape(entry["minima"], (-1, 2)), rtol=1e-7
    )


def step_error(page, numerics, run):
    """Lead the page's optimizer along the library's points; compare where each step arrives."""
    points, updates = np.asarray(run["points"]), np.asarray(run["updates"])
    argument = {**run["options"], "points": points[:-1].tolist()}
    ours = np.asarray(evaluate(page, numerics, "(o) => m.updates(o)", argument), float)
    apart = np.linalg.norm(ours - updates, axis=1)
    sizes = np.maximum(np.linalg.norm(updates, axis=1), np.linalg.norm(points[1:], axis=1))
    return worst(apart / sizes)


def path_error(page, numerics, run):
    ours = evaluate(page, numerics, "(o) => m.path(o)", run["options"])
    return max(
        worst(np.abs(np.subtract(ours[key], run[key])) / np.maximum(1, np.abs(run[key])))
        for key in ("points", "values")
    )


@pytest.mark.parametrize("name", golden.OPTIMIZERS)
def test_single_steps_are_the_library_s(blank, library, name):
    numerics = bundle(PATHS)
    errors = {
        run["options"]["surface"]: step_error(blank, numerics, run)
        for run in library["runs"]
        if run["options"]["optimizer"] == name
    }
    assert len(errors) == len(golden.SURFACES)
    assert max(errors.values()) <= STEP_TOLERANCE, errors


@pytest.mark.parametrize("name", golden.OPTIMIZERS)
def test_paths_are_the_library_s_where_its_own_can_be_repeated(blank, library, name):
    numerics = bundle(PATHS)
    runs = [run for run in library["runs"] if run["options"]["optimizer"] == name and run["stable"]]
    assert len(runs) >= 4
    errors = {run["options"]["surface"]: path_error(blank, numerics, run) for run in runs}
    assert max(errors.values()) <= PATH_TOLERANCE, errors


def test_sgd_at_rate_10_in_the_ravine_is_chaotic_in_both(blank, library):
    run = next(run for run in library["runs"] if run["options"]["optimizer"] == "sgd")
    assert run["options"]["surface"] == "ravine"
    assert not run["stable"]
    growth = lambda options: evaluate(
        blank, bundle(PATHS), "(o) => m.amplification(o) / m.CHAOS", options
    )
    assert growth(run["options"]) > 1
    assert growth({**run["options"], "rate": 0.5}) < 1e-3


def test_page_answers_to_window_play(open_briefly, library):
    page = open_briefly()
    run = next(r for r in library["runs"] if r["stable"] and r["options"]["optimizer"] == "adam")
    ours = page.evaluate("(o) => play.path(o).points", run["options"])
    np.testing.assert_allclose(ours, run["points"], rtol=PATH_TOLERANCE, atol=PATH_TOLERANCE)


def edited(file, old, new):
    """Build the numerics with one place of one source changed."""

    def edit(name, text):
        if name != file:
            return text
        assert text.count(old) == 1, (file, old)
        return text.replace(old, new)

    return bundle(PATHS, edit)


OPTIMIZERS_JS = "numerics/optimizers.js"


@pytest.mark.parametrize(
    ("optimizer", "old", "new"),
    [
        ("sgd", "(g) => -rate * g;", "(g) => rate * g;"),
        ("momentum", "(1 - decay) * x + decay * mean", "decay * x + (1 - decay) * mean"),
        ("nesterov", "(1 - decay) * g)", "g)"),
        ("heavy_ball", "m = g + decay * m", "m = (1 - decay) * g + decay * m"),
        ("adam", " / (1 - decay ** count)", ""),
        ("adam", " / (1 - b2 ** count)", ""),
        ("adam", "const first = average(decay)", "const first = average(b2)"),
        ("adam", "const second = average(b2)", "const second = average(decay)"),
        ("sign", "-rate * Math.sign(g)", "-rate * g"),
        ("newton", "Math.abs(a - t * b), Math.abs(d + t * b)", "a - t * b, d + t * b"),
    ],
)
def test_comparison_sees_a_broken_optimizer(blank, library, optimizer, old, new):
    numerics = edited(OPTIMIZERS_JS, old, new)
    runs = [run for run in library["runs"] if run["options"]["optimizer"] == optimizer]
    assert max(step_error(blank, numerics, run) for run in runs) > 1e-6
    assert max(path_error(blank, numerics, run) for run in runs if run["stable"]) > 1e-6


@pytest.mark.parametrize(
    ("surface", "old", "new"),
    [
        ("ravine", "+ 0.01 * Math.sign(x)", "- 0.01 * Math.sign(x)"),
        ("steep_optima", "sum[1] -= (p * dx * dy) / S2", "sum[1] += (p * dx * dy) / S2"),
        ("rosenbrock", "2 - 400 * (y - x * x)", "2 + 400 * (y - x * x)"),
        ("beale", "ty: 3 * x * (y * y)", "ty: 2 * x * (y * y)"),
        ("himmelblau", "- 11) ** 2 + (x", "- 7) ** 2 + (x"),
        ("quadratic", "[a * x, b * y]", "[b * x, a * y]"),
    ],
)
def test_comparison_sees_a_broken_surface(blank, library, surface, old, new):
    def edit(name, text):
        del name
        assert text.count(old) == 1
        return text.replace(old, new)

    entry = next(entry for entry in library["functions"] if entry["surface"] == surface)
    _, errors = function_errors(blank, bundle("numerics/surfaces.js", edit), entry)
    assert max(errors.values()) > 1e-6


def test_factors_and_limits_are_those_of_the_library_s_steps(blank, library):
    numerics = bundle("numerics/momentum.js")
    for entry in library["contractions"]:
        problem, curvature = entry["problem"], entry["curvature"]
        ours = evaluate(blank, numerics, "(o) => m.factor(o)", {**problem, "curvature": curvature})
        # a double root is known to the root of the rounding only; none of these is one
        np.testing.assert_allclose(ours, entry["factor"], rtol=1e-10)
        # the library's limit is of the curvature at a rate, the page's of the rate at a curvature
        limit = evaluate(
            blank, numerics, "(o) => m.stabilityLimit(o)", {**problem, "high": entry["limit"]}
        )
        np.testing.assert_allclose(limit, problem["rate"], rtol=1e-12)


def test_question_about_momentum_has_its_numbers_right(blank):
    steps = evaluate(
        blank,
        bundle("numerics/momentum.js"),
        "(o) => [m.bestRate({ ...o, decay: 0 }), m.best(o)].map((b) => m.stepsADigit(b.factor))",
        {"form": "ema", "low": 1, "high": 100},
    )
    # ln 10 over the condition number's half, and over the half of its root
    np.testing.assert_allclose(steps, [115, 11.5], rtol=3e-3)


@pytest.mark.parametrize("form", ["ema", "heavy_ball"])
def test_closed_forms_are_the_best_there_are(blank, form):
    numerics = bundle("numerics/momentum.js")
    found = evaluate(
        blank,
        numerics,
        """({ form, low, high, decays, scales }) => {
          const top = m.best({ form, low, high });
          const rows = decays.map((decay) => {
            const { rate, factor } = m.bestRate({ form, decay, low, high });
            const others = scales.map((s) => m.worst({ form, decay, low, high, rate: s * rate }));
            return { factor, others: Math.min(...others) };
          });
          return { top, rows, attained: m.worst({ form, low, high, ...top }) };
        }""",
        {
            "form": form,
            "low": 0.5,
            "high": 40.0,
            "decays": np.linspace(0, 0.98, 50).tolist(),
            "scales": np.geomspace(0.2, 2, 201).tolist(),
        },
    )
    for row in found["rows"]:
        assert row["factor"] <= row["others"] * (1 + 1e-12)
        assert row["factor"] >= found["top"]["factor"] * (1 - 1e-12)
    # the roots are double there: half of the digits remain
    np.testing.assert_allclose(found["attained"], found["top"]["factor"], rtol=1e-6)
    roots = np.sqrt([0.5, 40.0])
    np.testing.assert_allclose(found["top"]["factor"], np.diff(roots)[0] / roots.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("scheme", "expected"), [("light", palette.COLORS), ("dark", palette.COLORS_ON_DARK)]
)
def test_looks_are_the_library_s(open_briefly, scheme, expected):
    page = open_briefly(color_scheme=scheme)
    colours = page.evaluate(
        "[0, 1, 2, 3].map((i) => getComputedStyle(document.documentElement)"
        ".getPropertyValue(`--c${i}`).trim().toUpperCase())"
    )
    assert tuple(colours) == expected[:4]
    looks = evaluate(page, bundle("frame/theme.js"), "() => [m.MARKERS, m.DASHES]", None)
    assert tuple(looks[0]) == style.MARKERS[:4]
    assert [len(dash) for dash in looks[1]] == [0, 2, 4, 2]  # solid, dashed, dash-dotted, dotted
