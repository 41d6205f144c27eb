"""Pictures are well-formed, carry the numbers, and stay small."""

import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut import autodiff

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
    values = graph.evaluate(*args)
    picture = autodiff.draw(graph, values, graph.backpropagate(values, jnp.ones(3)), max_nodes=999)
    ElementTree.fromstring(picture)
    assert "table/&lt;b&gt;" in picture
    assert "norm" in picture


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
