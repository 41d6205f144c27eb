"""The page's variances against the library's, and the widget by keyboard."""

import math

import pytest

from docs.play.golden import initialization as golden
from docs.play.inline import build, bundle

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def page(open_page):
    return open_page("#initialization&guess=skip")


@pytest.fixture(scope="module")
def layers():
    return golden.layers(1.4, 0.1, 5)


def variances(page, activation, weight, bias, depth=5):
    options = {"activation": activation, "weightVariance": weight, "biasVariance": bias}
    return page.evaluate("options => play.variances(options)", {**options, "depth": depth})


def apart(found, expected):
    """Largest relative difference; infinities must agree."""
    pairs = list(zip(found, expected, strict=True))
    return max(
        0.0 if a == b else abs(a - b) / abs(b) if math.isfinite(a) else 1.0 for a, b in pairs
    )


def distance_of_layers(page, layers):
    call = """names => names.map((activation) => play.variances(
      { activation, weightVariance: 1.4, biasVariance: 0.1, depth: 5 }))"""
    found = zip(page.evaluate(call, list(layers)), layers.values(), strict=True)
    return max(apart(mine[way], row[way]) for mine, row in found for way in row)


def test_every_layer_is_as_the_library_says(page, layers):
    assert distance_of_layers(page, layers) < TOLERANCE


def test_gains_are_the_library_s(page):
    for name, gain in golden.gains().items():
        assert variances(page, name, 1.0, 0.0)["gain"] == pytest.approx(gain, rel=TOLERANCE)


def test_fixed_points_are_the_library_s(page):
    for row in golden.fields():
        found = variances(page, *row["point"])
        q, chi, c, scale = row["expected"]
        assert apart([found["qStar"], found["chi"], found["cStar"]], [q, chi, c]) < TOLERANCE
        # of an infinite signal the rest of the series has few digits, the library's as the page's
        digits = TOLERANCE if math.isfinite(q) else 0.01
        assert found["depthScale"] == pytest.approx(scale, rel=digits)


def test_critical_points_are_the_library_s(page):
    for row in golden.criticals():
        name, bias = row["point"]
        found = variances(page, name, 1.0, bias)["critical"]
        assert apart([found["weightVariance"], found["qStar"]], row["expected"]) < TOLERANCE


def test_doctor_begins_to_speak_where_the_library_s_does(page):
    there = golden.thresholds()
    for name, value in page.evaluate("play.thresholds").items():
        assert value == there[name]


def test_doctor_says_first_what_the_library_s_says_of_a_network(page):
    for row in golden.verdicts():
        found = variances(page, "tanh", *row["point"], depth=golden.DEPTH)["verdict"]["kind"]
        assert found == (row["kinds"] or ["fine"])[0], row


BROKEN = {
    "bias left out": ("+ biasVariance);\n  for (let i = 1", ");\n  for (let i = 1"),
    "slope of the wrong layer": ("* factor(forward[i])", "* factor(forward[i + 1])"),
    "tanh's slope doubled": ("1 - Math.tanh(x) ** 2", "1 - 2 * Math.tanh(x) ** 2"),
    "ELU with a wrong factor": (
        "value: (x) => (x > 0 ? x : Math.expm1(x))",
        "value: (x) => (x > 0 ? x : 2 * Math.expm1(x))",
    ),
    "half of the Gaussian": (
        "sum += mass[i] * (right * right + left * left)",
        "sum += 2 * mass[i] * right * right",
    ),
}


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=BROKEN)
def test_a_broken_formula_is_noticed(open_page, layers, tmp_path, old, new):
    def edit(name, text):
        if name != "numerics/initialization.js":
            return text
        assert old in text
        return text.replace(old, new)

    file = tmp_path / "broken.html"
    file.write_text(build(edit), encoding="utf-8")
    broken = open_page("#initialization", file=file)
    assert distance_of_layers(broken, layers) > 1e3 * TOLERANCE


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "sigmoid"])
def test_shade_of_the_plane_is_chi(page, activation):
    """The table is linear between quarters of an octave of the variance: to a hundredth."""
    points = [[weight, bias] for weight in (0.3, 0.9, 1.7, 4.5) for bias in (0.01, 0.2, 0.9)]
    call = f"""points => {{ const m = {bundle("numerics/initialization.js")}; return points.map(
      ([weightVariance, biasVariance]) => [
        m.chiAt("{activation}", weightVariance, biasVariance),
        m.variances({{ activation: "{activation}", weightVariance, biasVariance }}).chi]); }}"""
    for shade, chi in page.evaluate(call, points):
        assert shade == pytest.approx(chi, rel=0.01)


def test_network_is_the_same_whether_its_numbers_are_drawn_at_once_or_a_slice_a_picture(page):
    numerics = bundle("numerics/initialization.js")
    options = {"weightVariance": 1.3, "biasVariance": 0.2, "depth": 7, "width": 33, "seed": 4}
    pieces, slow, quick = page.evaluate(
        f"""(options) => {{
          const [m, other] = [{numerics}, {numerics}];
          let [pieces, found] = [0, null];
          while (!found) {{ found = m.sample(options, 1000); pieces += 1; }}
          return [pieces, found, other.sample(options)];
        }}""",
        options,
    )
    # none with the first, then 7 x 33 x 34 weights and biases and 4 x 33 numbers at the ends
    assert pieces == 1 + math.ceil((7 * 33 * 34 + 4 * 33) / 1000)
    assert slow == quick
    assert page.evaluate("options => play.variances(options).sample", options) == quick


def test_network_comes_to_the_picture_by_itself(open_page):
    page = open_page("#initialization")
    page.wait_for_function("play.now().result.sample?.forward.length === 50")
    assert page.faults == []


def test_networks_scatter_around_theory(page):
    options = {"weightVariance": 1.5, "biasVariance": 0.1, "depth": 6, "width": 256}
    each = [{**options, "seed": seed} for seed in range(16)]
    found = page.evaluate("each => each.map((options) => play.variances(options))", each)
    for way in ("forward", "backward"):
        means = [sum(x) / 16 for x in zip(*(one["sample"][way] for one in found), strict=True)]
        # one network of width 256 is off by 0.1 (forward) to 0.22 (backward) at six layers, as
        # measured over 150 seeds: four standard errors
        assert apart(means, found[0][way]) < 4 * {"forward": 0.1, "backward": 0.22}[way] / 4


def test_any_depth_and_size_is_drawn_and_told(open_page):
    page = open_page("#initialization&activation=gelu&guess=skip")
    for depth, weight in ((1, 0), (1, 1), (1, 1e6), (1000, 0), (1000, 1), (1000, 1e6)):
        page.evaluate("patch => play.change(patch)", {"depth": depth, "weight": weight})
        page.wait_for_function(f"play.now().result?.forward.length === {depth}")
        told = f"document.querySelector('.says').textContent.includes('Layer {depth} multiplies')"
        page.wait_for_function(told)
    page.evaluate("play.change({ depth: 1000, weight: 1 })")
    page.wait_for_function("document.querySelector('.says').textContent.includes('of 1000')")
    assert page.faults == []


def test_gelu_jumps_where_the_page_says(open_page):
    page = open_page("#initialization")
    page.get_by_role("button", name="GELU jumps: move the weight variance from 2.1 to 2.2").click()
    end = "play.now().state.activation === 'gelu' && play.now().result.forward.at(-1)"
    page.wait_for_function(f"{end} < 0.1")
    page.get_by_label("Weight variance, exact").fill("2.2")
    page.wait_for_function(f"{end} > 30")
    page.wait_for_function("document.querySelector('.says').textContent.startsWith('Exploding')")


def test_point_moves_by_arrow_keys_and_the_sentence_follows(open_page):
    page = open_page("#initialization&weight=1.2&bias=0&depth=50&guess=skip")
    page.get_by_role("slider", name="Weight and bias variance").focus()
    for weight in (0.7, 0.2):  # a tenth of the plane each
        page.keyboard.press("Shift+ArrowLeft")
        page.wait_for_function(f"Math.abs(play.now().result.forward[0] - {weight}) < 1e-9")
    page.wait_for_function("document.querySelector('.says').textContent.startsWith('Vanishing')")
    assert page.faults == []


def test_state_survives_the_address_exactly(open_page):
    page = open_page("#initialization&guess=skip")
    page.evaluate("play.change({ weight: 1 / 3, bias: 1e-9, activation: 'elu', depth: 7 })")
    page.wait_for_function("location.hash.includes('elu')")
    again = open_page(page.evaluate("location.hash"))
    assert again.evaluate("play.now().state") == page.evaluate("play.now().state")
    assert again.evaluate("play.now().result.chi") == page.evaluate("play.now().result.chi")
