"""The page's values and adjoints against the library's and `jax.grad`, and the walk by keyboard."""

import math

import pytest

from docs.play.golden import backpropagation as golden
from docs.play.inline import build

# A graph has some twenty operations, each right to a few units of 2e-16.
TOLERANCE = 1e-13


@pytest.fixture(scope="module")
def rows():
    return golden.adjoints()


def differs(found, expected):
    """Whether two values are apart; booleans, none and NaN must agree."""
    if expected is None or isinstance(expected, bool):
        return found is not expected
    if math.isnan(expected):
        return not math.isnan(found)
    return not math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def misses(page, rows):
    """Count the numbers that are not the library's or JAX's."""
    found = page.evaluate(
        "rows => rows.map(({ graph, inputs }) => play.adjoints({ graph, inputs }))", rows
    )
    pairs = []
    for mine, row in zip(found, rows, strict=True):
        grad = [mine["adjoints"][index] for index in mine["inputs"]]
        pairs += zip(mine["values"], row["values"], strict=True)
        pairs += zip(mine["adjoints"], row["adjoints"], strict=True)
        pairs += zip(grad, row["grad"], strict=True)
    return sum(differs(*pair) for pair in pairs)


def test_values_and_adjoints_are_the_library_s_and_jax_s(open_page, rows):
    assert misses(open_page("#backpropagation"), rows) == 0


def test_elu_written_out_is_not_a_number_at_800_and_the_node_is(rows):
    at = {row["graph"]: row["grad"] for row in rows if row["inputs"][0] == 800}
    assert all(math.isnan(g) for g in at["elu_parts"])
    assert at["elu_node"] == [1600, 1_280_000]


BROKEN = {
    "product with its operands swapped": ("[() => b, () => a]", "[() => a, () => b]"),
    "difference with the wrong sign": ("[one, () => -1]", "[one, one]"),
    "fan-out that does not add": (
        "adjoints[parent] = (adjoints[parent] ?? 0) + given",
        "adjoints[parent] = given",
    ),
    "power without its factor": ("() => y * a ** (y - 1)", "() => a ** (y - 1)"),
    "cosine for sine": ("() => Math.cos(a)", "() => -Math.cos(a)"),
    "ELU without its alpha": (
        "alpha * Math.exp(Math.min(z, 0))", "Math.exp(Math.min(z, 0))",
    ),
    "the other branch": ("() => (which ? 0 : 1), ()", "() => (which ? 1 : 0), ()"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_noticed(open_page, rows, tmp_path, old, new):
    def edit(name, text):
        if name != "numerics/backpropagation.js":
            return text
        assert old in text
        return text.replace(old, new)

    file = tmp_path / "broken.html"
    file.write_text(build(edit), encoding="utf-8")
    assert misses(open_page("#backpropagation", file=file), rows) > 0


def test_every_operation_of_the_graphs_is_known(open_page):
    page = open_page("#backpropagation&graph=network&step=99&guess=skip")
    assert "The gradient is complete" in page.locator(".says").inner_text()
    assert page.faults == []


def test_a_guess_is_told_right_or_wrong_and_right_goes_on(open_page):
    page = open_page("#backpropagation&graph=worked&step=7&guess=skip")
    box = page.get_by_label("Your guess: the adjoint of v2")
    told = page.locator(".backpropagation .verdict")
    box.fill("-6.97")
    box.press("Enter")
    assert told.inner_text().startswith("Not so")
    box.fill("6.97")  # cos 2 + exp 2, to 1 %
    box.press("Enter")
    page.wait_for_function("play.now().state.step === 8")
    assert told.inner_text() == "Right: δv2 = 6.973."
    sentence = "δv2 = δv4 × exp v2 + δv3 × cos v2 = 6.97"
    page.wait_for_function(
        "t => document.querySelector('.says').textContent.includes(t)", arg=sentence
    )
    assert page.faults == []


def test_walk_goes_by_keyboard_and_inputs_can_be_edited(open_page):
    page = open_page("#backpropagation&guess=skip")
    page.get_by_role("button", name="Next node").focus()
    for _ in range(10):
        page.keyboard.press("Enter")
    page.wait_for_function("play.now().state.step === 10")
    page.get_by_label("x", exact=True).fill("0")
    # at x = 0 the product is 0: d/dx = y (cos 0 + exp 0), d/dy = 0
    page.wait_for_function("play.now().result.adjoints[0] === 4")
    assert page.evaluate("play.now().result.adjoints[1]") == 0
    page.get_by_label("x", exact=True).fill("")
    assert page.get_by_label("x", exact=True).get_attribute("aria-invalid") is not None
    assert page.evaluate("play.now().state.inputs") == [0, 2]
    assert page.faults == []


def test_nonsense_in_the_address_leaves_a_graph(open_page):
    page = open_page("#backpropagation&guess=skip")
    for fragment in (
        "inputs=NaN,2",
        "inputs=1,2,3,4,5,6,7,8,9",
        "step=-4",
        "step=1e30",
        "graph=no",
    ):
        page.evaluate("text => { location.hash = text; }", f"#backpropagation&{fragment}")
        page.wait_for_function("decodeURIComponent(location.hash).includes('guess')")
        assert page.evaluate("play.now().result.inputs") == [1, 2], fragment
        assert page.locator("svg.graph").count() == 1
    assert page.faults == []


HIDDEN = """() => {
  const nodes = [...document.querySelectorAll("svg.graph rect")].map((r) => r.getBBox());
  const inside = (p, { x, y, width, height }) => (
    p.x > x + 1 && p.x < x + width - 1 && p.y > y + 1 && p.y < y + height - 1);
  const corners = nodes.flatMap(({ x, y, width, height }) => [
    { x: x + 2, y: y + 2 }, { x: x + width - 2, y: y + height - 2 }]);
  const along = (path) => Array.from({ length: 99 }, (_, i) => (
    path.getPointAtLength((path.getTotalLength() * (i + 1)) / 100)));
  const edges = [...document.querySelectorAll("svg.graph path")].flatMap(along);
  return edges.filter((p) => nodes.some((b) => inside(p, b))).length
    + corners.filter((p) => nodes.filter((b) => inside(p, b)).length > 1).length;
}"""


def hidden(page, name):
    """Count the points of edges behind nodes, and the corners of nodes within others."""
    page.evaluate("graph => play.change({ graph, step: 99 })", name)
    shown = "graph => document.querySelector('#backpropagation-graph').value === graph"
    page.wait_for_function(shown, arg=name)
    return page.evaluate(HIDDEN)


def test_no_node_covers_another_and_no_edge_runs_behind_one(open_page):
    page = open_page("#backpropagation&guess=skip")
    assert [hidden(page, name) for name in golden.ELSEWHERE] == [0] * len(golden.ELSEWHERE)
    assert page.faults == []


@pytest.mark.parametrize("narrow_or_wide", ["narrow: -40", "wide: 40"])
def test_a_layout_without_room_is_noticed(open_page, tmp_path, narrow_or_wide):
    def edit(name, text):
        key = narrow_or_wide.split(":")[0]
        whole = {"narrow": "narrow: 14", "wide": "wide: WIDTH + 4"}[key]
        return text.replace(whole, narrow_or_wide) if name == "widgets/backpropagation.js" else text

    file = tmp_path / "broken.html"
    file.write_text(build(edit), encoding="utf-8")
    page = open_page("#backpropagation&guess=skip", file=file)
    assert hidden(page, "elu_parts") > 0


def test_inputs_survive_the_address_exactly(open_page):
    page = open_page("#backpropagation&inputs=0.1,-1e-7&guess=skip")
    page.evaluate("play.change({ inputs: [1 / 3, -0] })")
    page.wait_for_function("location.hash.includes('0.333')")
    again = open_page(page.evaluate("location.hash"))
    assert again.evaluate("play.now().result.inputs[0] === 1 / 3")
    assert again.evaluate("Object.is(play.now().result.inputs[1], -0)")
