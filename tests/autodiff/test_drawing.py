"""Pictures are well-formed, carry the numbers, and stay small."""

import pickle
import re
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff
from jaxopt_tut.plotting.palette import DARK_PAGE, contrast

CONSTANT = np.float32([1.0, 2.0])
SVG = "{http://www.w3.org/2000/svg}"


def graph_and_numbers():
    fun = lambda x, y: jnp.sin(x * y) + jnp.exp(x * y)
    graph = autodiff.trace(fun)(1.0, 2.0)
    values = graph.evaluate(1.0, 2.0)
    return graph, values, graph.backpropagate(values, 1.0)


def test_boxes_and_arrows_are_those_of_the_graph():
    graph, values, adjoints = graph_and_numbers()
    picture = ElementTree.fromstring(autodiff.draw(graph, values, adjoints))
    assert len(picture.findall(f"{SVG}rect")) == len(graph.nodes)
    assert len(picture.findall(f"{SVG}path")) == sum(len(node.parents) for node in graph.nodes)
    text = [element.text for element in picture.findall(f"{SVG}text")]
    assert "= 8.29835" in text
    assert "adjoint = 13.9458" in text


def test_children_stand_below_their_parents_and_boxes_do_not_overlap():
    graph, values, adjoints = graph_and_numbers()
    picture = ElementTree.fromstring(autodiff.draw(graph, values, adjoints))
    boxes = [
        tuple(float(rect.get(k)) for k in ("x", "y", "width", "height"))
        for rect in picture.findall(f"{SVG}rect")
    ]
    for node in graph.nodes:
        for parent in node.parents:
            assert boxes[parent][1] + boxes[parent][3] < boxes[node.index][1]
    for i, (x, y, w, h) in enumerate(boxes):
        for u, v, s, t in boxes[:i]:
            assert x + w <= u or u + s <= x or y + h <= v or v + t <= y


def points_of(path):
    """Sample an arrow made of curves and upright lines."""
    at = None
    for letter, numbers in re.findall(r"([MCV])([^MCV]*)", path):
        ends = np.array(numbers.split(), float)
        if letter == "M":
            at = ends
        elif letter == "V":
            yield from (np.array([at[0], y]) for y in np.linspace(at[1], ends[0], 20))
            at = np.array([at[0], ends[0]])
        else:
            corners = np.stack([at, *ends.reshape(3, 2)])
            for t in np.linspace(0, 1, 20):
                yield (
                    np.array([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
                    @ corners
                )
            at = corners[-1]


def residual(params, x):
    """Values that are used far below, and biases that enter late."""
    first = h = jnp.tanh(x @ params[0]["kernel"] + params[0]["bias"])
    for layer in params[1:]:
        h = h + jnp.tanh(h @ layer["kernel"] + layer["bias"])
    return jnp.sum(h * first + x)


def test_no_arrow_runs_behind_a_box():
    params = [{"kernel": jnp.eye(3), "bias": jnp.ones(3)}] * 4
    graph = autodiff.trace(residual)(params, jnp.ones((2, 3)))
    values = graph.evaluate(params, jnp.ones((2, 3)))
    picture = ElementTree.fromstring(autodiff.draw(graph, values, graph.backpropagate(values, 1.0)))
    boxes = boxes_of(picture)
    paths = picture.findall(f"{SVG}path")
    assert any("V" in path.get("d") for path in paths)
    for path in paths:
        for px, py in points_of(path.get("d")):
            inside = [x + 1 < px < x + w - 1 and y + 1 < py < y + h - 1 for x, y, w, h, _ in boxes]
            assert not any(inside), path.get("d")


def test_an_input_stands_right_above_what_it_enters():
    graph = autodiff.trace(lambda x, late: jnp.sin(jnp.sin(jnp.sin(x))) * late)(1.0, 2.0)
    boxes = boxes_of(ElementTree.fromstring(autodiff.draw(graph)))
    late, product = boxes[graph.inputs[1]], boxes[graph.outputs[0]]
    assert late[1] + late[3] < product[1] < late[1] + 3 * late[3]


def test_a_picture_says_in_words_what_is_in_it():
    graph, *_ = graph_and_numbers()
    picture = ElementTree.fromstring(autodiff.draw(graph))
    assert picture.get("role") == "img"
    assert picture.findtext(f"{SVG}title") == "Computation graph of 7 nodes"
    said = picture.findtext(f"{SVG}desc")
    assert said == "From x, y by mul 2 times, sin, exp, add to float32[]."


def loop(w, xs):
    """Two results of one scan, whose body holds a call with its own rule and a loop."""

    def step(h, x):
        h = jax.nn.relu(w @ h + x)
        return jax.lax.fori_loop(0, 2, lambda _, v: jnp.sin(w @ v), h), h

    return jax.lax.scan(step, xs[0], xs)


LOOP = jnp.array([[0.3, -1.0], [0.8, 0.5]]), jnp.arange(6.0).reshape(3, 2)


def boxes_of(picture):
    return [
        (*(float(rect.get(k)) for k in ("x", "y", "width", "height")), rect.get("fill"))
        for rect in picture.findall(f"{SVG}rect")
    ]


def test_the_body_of_a_loop_is_drawn_once_within_its_frame():
    graph = autodiff.trace(loop)(*LOOP)
    values = graph.evaluate(*LOOP)
    adjoints = graph.backpropagate(values, (jnp.ones(2), jnp.ones((3, 2))))
    picture = ElementTree.fromstring(autodiff.draw(graph, values, adjoints))
    body = next(node.body for node in graph.nodes if node.op == "scan")
    called = next(node.body for node in body.nodes if node.op == "custom_jvp_call")
    repeated = next(node.body for node in body.nodes if node.op == "scan")
    boxes = boxes_of(picture)
    nodes = [graph, body, called, repeated]
    assert len(boxes) == sum(len(part.nodes) for part in nodes)
    assert sum(fill == "#f3f4f6" for *_, fill in boxes) == len(called.nodes)
    width, height = (float(picture.get(k)) for k in ("width", "height"))
    for i, (x, y, w, h, _) in enumerate(boxes):
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        for u, v, s, t, _ in boxes[:i]:  # apart, or the later one inside of the earlier one
            apart = x + w <= u or u + s <= x or y + h <= v or v + t <= y
            assert apart or (u < x and x + w < u + s and v < y and y + h < v + t)
    texts = [(float(t.get("x")), float(t.get("y")), t.text) for t in picture.findall(f"{SVG}text")]
    for x, y, text in texts:  # 11 points high; a letter is at most 0.61 of that wide
        holding = [b for b in boxes if b[0] < x < b[0] + b[2] and b[1] < y < b[1] + b[3]]
        u, v, s, t, _ = holding[-1]
        assert u <= x - 0.61 * 11 * len(text) / 2
        assert x + 0.61 * 11 * len(text) / 2 <= u + s
        assert v <= y - 11 + 3
        assert y + 3 <= v + t
    few = ElementTree.fromstring(autodiff.draw(graph, max_nodes=len(graph.nodes)))
    assert len(boxes_of(few)) == len(graph.nodes)


def test_the_numbers_in_a_loop_are_those_of_all_its_steps():
    graph = autodiff.trace(loop)(*LOOP)
    picture = ElementTree.fromstring(autodiff.draw(graph, graph.evaluate(*LOOP)))
    shown = [element.text for element in picture.findall(f"{SVG}text")]
    w, xs = map(np.asarray, LOOP)
    h, added, sines = xs[0], [], []
    for x in xs:
        added.append(w @ h + x)
        h = np.maximum(added[-1], 0)
        for _ in range(2):
            h = np.sin(w @ h)
            sines.append(h)
    for op, values in (("add", added), ("sin", sines)):
        place = max(
            k for k, text in enumerate(shown[:-2]) if text == op and "float" in shown[k + 1]
        )
        # `draw` shows four digits of numbers that are rounded to seven.
        assert abs(float(shown[place + 2].split()[1]) / np.linalg.norm(values) - 1) < 1e-3


def test_dot_draws_a_body_as_a_cluster():
    graph = autodiff.trace(loop)(*LOOP)
    text = autodiff.to_dot(graph)
    body = next(node.body for node in graph.nodes if node.op == "scan")
    called = next(node.body for node in body.nodes if node.op == "custom_jvp_call")
    assert text.count('{ label="body of scan";') == 2
    assert text.count('{ label="body of custom_jvp_call";') == 1
    assert text.count("color=gray") == len(called.nodes)
    assert text.count("{") == text.count("}")
    named = [line.split()[0] for line in text.splitlines() if "[label=" in line]
    assert len(named) == len(set(named))
    ends = {end.strip(" ;") for line in text.splitlines() if "->" in line
            for end in line.split("[")[0].split("->")}  # fmt: skip
    assert ends <= set(named)


def test_long_graphs_are_folded_by_scope():
    def deep(x):
        for k in range(4):
            with jax.named_scope(f"layer{k}"):
                for _ in range(30):
                    x = jnp.sin(x) * 2
        return x

    graph = autodiff.trace(deep)(1.0)
    picture = ElementTree.fromstring(autodiff.draw(graph))
    text = [element.text for element in picture.findall(f"{SVG}text")]
    assert [t for t in text if t.startswith("layer")] == [f"layer{k}" for k in range(4)]
    assert text.count("60 operations") == 4
    assert (
        len(ElementTree.fromstring(autodiff.draw(graph, max_nodes=500)).findall(f"{SVG}rect"))
        == 241
    )


def test_arrays_keys_and_names_with_angle_brackets_are_drawn():
    def fun(key, table):
        return jax.random.normal(key, (3,)) * table["<b>"]

    args = (jax.random.key(0), {"<b>": jnp.ones(3)})
    graph = autodiff.trace(fun)(*args)
    values = jax.jit(graph.evaluate)(*args)
    adjoints = jax.jit(graph.backpropagate)(values, jnp.ones(3))
    picture = autodiff.draw(graph, values, adjoints, max_nodes=999)
    ElementTree.fromstring(picture)
    assert "table/&lt;b&gt;" in picture
    assert "norm" in picture


ODD = ['a<b>&"c"', "w[0]['k']", "back\\slash", "x" * 300, "line\nbreak\x00\x1b", "\ud800"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_any_name_comes_out_right_and_keeps_to_its_box(name):
    graph = autodiff.trace(lambda table: jnp.sin(table[name]))({name: 1.0})
    picture = ElementTree.fromstring(autodiff.draw(graph))
    shown = picture.findall(f"{SVG}text")[0].text
    wanted = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in f"table/{name}")
    assert shown == (wanted if len(wanted) <= 22 else f"…{wanted[-21:]}")
    assert wanted in picture.findtext(f"{SVG}desc")
    label = re.match(
        r'  n0 \[label="((?:[^"\\]|\\.)*)", shape=', autodiff.to_dot(graph).split("\n")[1]
    )[1]
    assert re.sub(r"\\(.)", r"\1", label.removesuffix(r"\nfloat32[]")) == f"table/{name}".replace(
        "\n", " "
    )


def colours_of(picture, is_dark):
    """Return fill and stroke of everything, in the colours of the attributes or of the rules."""
    rules = dict(
        ((name, light), dark)
        for name, light, dark in re.findall(
            r'\[(\w+)="(#\w+)"\] \{\1: (#\w+)\}', picture.findtext(f"{SVG}style")
        )
        if is_dark
    )
    for part in picture:
        found = {name: part.get(name) for name in ("fill", "stroke")}
        yield part, {name: rules.get((name, colour), colour) for name, colour in found.items()}


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_a_picture_can_be_read_in_light_and_in_dark_on_either_page(is_dark):
    fun = autodiff.zero_safe(lambda x: jnp.where(x > 0, x, jnp.sqrt(jax.nn.relu(x)) * CONSTANT))
    many = autodiff.trace(loop)(*LOOP)
    graph = autodiff.trace(fun)(0.0)
    values = graph.evaluate(0.0)
    pictures = [
        autodiff.draw(graph, values, graph.backpropagate(values, jnp.ones(2))),
        autodiff.draw(many, many.evaluate(*LOOP)),
        autodiff.draw(many, max_nodes=4),
    ]
    fills = set()
    for picture in map(ElementTree.fromstring, pictures):
        box = None
        for part, colours in colours_of(picture, is_dark):
            if part.tag == f"{SVG}rect":
                box = colours["fill"]
                fills.add(box)
            elif part.tag == f"{SVG}text":
                assert contrast(colours["fill"], box) >= 4.5  # small text, of WCAG 2.2, 1.4.3
            elif part.tag in (f"{SVG}path", f"{SVG}polygon"):
                colour = colours["stroke"] or colours["fill"]
                assert min(contrast(colour, page) for page in ("#ffffff", DARK_PAGE)) >= 3  # 1.4.11
    assert len(fills) == 4
    assert all((contrast(fill, "#ffffff") > 8) is is_dark for fill in fills)


def test_a_drawing_is_text_that_a_notebook_shows_as_a_picture(tmp_path):
    graph, *_ = graph_and_numbers()
    picture = autodiff.draw(graph)
    assert repr(picture) == "Drawing: Computation graph of 7 nodes"
    assert type(picture._repr_svg_()) is str
    assert picture._repr_svg_() == picture == graph._repr_svg_()
    again = pickle.loads(pickle.dumps(picture))
    assert (type(again), again) == (autodiff.Drawing, picture)
    (tmp_path / "graph.svg").write_text(picture, encoding="utf-8")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == picture


def test_pictures_of_one_page_share_no_names():
    graph, *_ = graph_and_numbers()
    assert not re.search(r"\bid=|url\(", autodiff.draw(graph))


def test_dot_has_every_node_and_edge():
    graph, *_ = graph_and_numbers()
    text = autodiff.to_dot(graph)
    assert text.count("[label=") == len(graph.nodes)
    assert text.count("->") == sum(len(node.parents) for node in graph.nodes)


def test_misaligned_numbers_are_refused():
    graph, values, _ = graph_and_numbers()
    with pytest.raises(ValueError, match="draw needs 7 values, got 6"):
        autodiff.draw(graph, values[:-1])
    with pytest.raises(ValueError, match="draw needs max_nodes >= 1, got max_nodes=0"):
        autodiff.draw(graph, max_nodes=0)
