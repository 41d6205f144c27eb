"""What `window.play` refuses: each bad argument with a sentence of who, the rule and the value."""

import pytest

PATH = 'rate: 0.1, steps: 3, surface: "quadratic"'
SURFACES = "ravine, steep_optima, rosenbrock, beale, himmelblau, quadratic"
OPTIMIZERS = "sgd, momentum, heavy_ball, nesterov, adam, sign, newton"
ACTIVATIONS = "tanh, relu, leaky_relu, gelu, silu, elu, selu, sigmoid, identity"
OPTIONS = "surface, optimizer, rate, decay, b2, eps, curvatures, start, steps"
FINITE = [("NaN", "NaN"), ("Infinity", "Infinity"), ('"1"', "1"), ("null", "null"), ("[1]", "[1]")]


def every(call, rule, values):
    """Make a row of each value, of the sentence that must refuse it."""
    return [(call.format(value), rule + said + ".") for value, said in values]


NO_PAIR = [
    ("[1]", "[1]"),
    ("[1, 2, 3]", "[1, 2, 3]"),
    ("[1, NaN]", "[1, NaN]"),
    ('["1", 2]', "[1, 2]"),
    ("[[1], 2]", "[[1], 2]"),
    ("7", "7"),
    ("null", "null"),
    ("{}", "an object"),
]
NO_COUNT = [("-1", "-1"), ("2.5", "2.5"), ("1e9", "1000000000"), ("NaN", "NaN"), ('"3"', "3")]
NO_SHARE = [("1", "1"), ("-0.1", "-0.1"), ("NaN", "NaN"), ('"0.5"', "0.5")]
REFUSED = [
    ("path()", "path needs an object of options, got undefined."),
    ("path(0.1)", "path needs an object of options, got 0.1."),
    ("path([1, 2])", "path needs an object of options, got [1, 2]."),
    ("path({})", "path needs a finite number rate, got rate=undefined."),
    ("path({ rate: 1, lr: 1 })", f"path needs no options but {OPTIONS}, got lr."),
    *every(
        "path({{ rate: 1, surface: {} }})",
        f"path needs as surface one of {SURFACES}, got surface=",
        [('"cone"', "cone"), ("3", "3"), ("null", "null"), ('"constructor"', "constructor")],
    ),
    *every(
        "path({{ rate: 1, optimizer: {} }})",
        f"path needs as optimizer one of {OPTIMIZERS}, got optimizer=",
        [('"Adam"', "Adam"), ("[]", "[]"), ('"__proto__"', "__proto__")],
    ),
    *every("path({{ rate: {} }})", "path needs a finite number rate, got rate=", FINITE),
    *every(
        f"path({{{{ {PATH}, start: {{}} }}}})",
        "path needs as start a list of 2 finite numbers, got start=",
        NO_PAIR,
    ),
    *every(
        f"path({{{{ {PATH}, curvatures: {{}} }}}})",
        "path needs as curvatures a list of 2 finite numbers, got curvatures=",
        NO_PAIR,
    ),
    *every(
        "path({{ rate: 1, steps: {} }})",
        "path needs a whole number 0 <= steps <= 100000, got steps=",
        NO_COUNT,
    ),
    *every(
        "path({{ rate: 1, decay: {} }})",
        "path needs a finite number 0 <= decay < 1, got decay=",
        NO_SHARE,
    ),
    *every(
        "path({{ rate: 1, b2: {} }})", "path needs a finite number 0 <= b2 < 1, got b2=", NO_SHARE
    ),
    *every(
        "path({{ rate: 1, eps: {} }})",
        "path needs a finite number 0 <= eps, got eps=",
        [("-1e-8", "-1e-8"), *FINITE],
    ),
    ("updates()", "updates needs a finite number rate, got rate=undefined."),
    *every(
        "updates({{ rate: 1, points: {} }})",
        "updates needs as each of points a list of 2 finite numbers, got each of points=",
        [("[[1, 2], [3]]", "[3]"), ("7", "7"), ("undefined", "undefined")],
    ),
    ("variances()", "variances needs an object of options, got undefined."),
    (
        "variances({ layers: 3 })",
        "variances needs no options but activation, weightVariance, biasVariance, depth, width, "
        "seed, got layers.",
    ),
    *every(
        "variances({{ activation: {} }})",
        f"variances needs as activation one of {ACTIVATIONS}, got activation=",
        [('"cosh"', "cosh"), ("Math.tanh", "function tanh() { [native code] }"), ("0", "0")],
    ),
    *[
        row
        for name in ("weightVariance", "biasVariance")
        for row in every(
            f"variances({{{{ {name}: {{}} }}}})",
            f"variances needs a finite number 0 <= {name}, got {name}=",
            [("-1", "-1"), *FINITE],
        )
    ],
    *[
        row
        for name, low, high in (("depth", 1, 1000), ("width", 1, 256), ("seed", 0, 10**9))
        for row in every(
            f"variances({{{{ {name}: {{}} }}}})",
            f"variances needs a whole number {low} <= {name} <= {high}, got {name}=",
            [
                (f"{low - 1}", f"{low - 1}"),
                (f"{high + 1}", f"{high + 1}"),
                *NO_COUNT[1::2],
                *FINITE,
            ],
        )
    ],
    ("adjoints()", "adjoints needs an object of options, got undefined."),
    (
        "adjoints({ graph: 'loop' })",
        "adjoints needs as graph one of worked, fan_out, network, elu_node, elu_parts, "
        "got graph=loop.",
    ),
    *every(
        "adjoints({{ graph: 'worked', inputs: {} }})",
        "adjoints needs as inputs a list of 2 finite numbers, got inputs=",
        NO_PAIR,
    ),
    ("hypergradient()", "hypergradient needs an object of options, got undefined."),
    *every(
        "hypergradient({{ problem: {}, logPenalty: 0, steps: 1 }})",
        "hypergradient needs as problem one of one, two, got problem=",
        [('"three"', "three"), ("3", "3")],
    ),
    *every(
        "hypergradient({{ logPenalty: {}, steps: 1 }})",
        "hypergradient needs a finite number logPenalty, got logPenalty=",
        FINITE,
    ),
    *every(
        "hypergradient({{ logPenalty: 0, steps: {} }})",
        "hypergradient needs a whole number 0 <= steps <= 1000, got steps=",
        NO_COUNT,
    ),
    *every(
        "hypergradient({{ logPenalty: 0, steps: 5, k: {} }})",
        "hypergradient needs a whole number 1 <= k <= 1000, got k=",
        [("0", "0"), *NO_COUNT],
    ),
    (
        "hypergradient({ problem: { rate: 1, start: [1, 2], curvature: [1, 2], target: [1, 2], "
        "weight: [1], validation: [1, 2] }, logPenalty: 0, steps: 1 })",
        "hypergradient needs as weight a list of 2 finite numbers, got weight=[1].",
    ),
]


@pytest.fixture(scope="module")
def page(open_page):
    return open_page()


@pytest.mark.parametrize(("call", "sentence"), REFUSED, ids=[call for call, _ in REFUSED])
def test_bad_arguments_are_refused_in_words(page, call, sentence):
    told = "() => { try { return play.%s; } catch (e) { return `${e.name}: ${e.message}`; } }"
    assert page.evaluate(told % call) == f"RangeError: {sentence}"


EXTREME = [
    "path({ rate: 0 }).points",
    "path({ rate: -1, surface: 'quadratic', steps: 9 }).points",
    "path({ rate: 1, decay: 0, b2: 0, eps: 0, optimizer: 'adam', start: [0, 0] }).points",
    "path({ rate: 1, optimizer: 'newton', surface: 'quadratic', curvatures: [0, 0] }).points",
    "path({ rate: 1, steps: 0, start: [1e300, -1e300] }).points",
    "path({ rate: 1, steps: 100000 }).values",
    "variances({ weightVariance: 0 }).forward",
    "variances({ weightVariance: 0, biasVariance: 0, depth: 1 }).backward",
    "variances({ depth: 1000, width: 256 }).sample.forward",
    "variances({ activation: 'relu', weightVariance: 1e6, depth: 30, width: 1 }).forward",
    "adjoints({ graph: 'worked', inputs: [0, 0] }).values",
    "hypergradient({ logPenalty: -700, steps: 0 }).y",
    "hypergradient({ logPenalty: 0, steps: 1000, k: 1000 }).y",
]


@pytest.mark.parametrize("call", EXTREME)
def test_extreme_arguments_give_finite_numbers(page, call):
    assert page.evaluate(f"play.{call}.flat().every(Number.isFinite)")
