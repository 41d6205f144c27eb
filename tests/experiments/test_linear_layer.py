"""The claims hold on a good result, and each can fail."""

import numpy as np

from experiments.autodiff import linear_layer as linear


def draw(num_draws=4):
    shapes = ((linear.BATCH, linear.SIZE), (linear.SIZE, linear.SIZE), (linear.SIZE,))
    rng = np.random.default_rng(0)
    primals, v, w = (tuple(rng.standard_normal((num_draws, *s)) for s in shapes) for _ in range(3))
    u, target = rng.standard_normal((2, num_draws, linear.BATCH, linear.SIZE))
    return primals, v, w, u, target


def results():
    primals, v, w, u, target = draw()
    pulled, pushed, hv, _ = linear.by_hand(primals, v, u, target)
    hw = linear.by_hand(primals, w, u, target)[2]
    found = {"pulled": pulled, "pushed": pushed, "hv": hv, "hw": hw, "vh": hv}
    found["wrong"] = (u @ primals[1], *pulled[1:])

    def judge(found):
        errors = linear.compare(found, primals, v, w, u, target)
        bound = 1e-5
        return linear.Result(
            {dtype: {n: e / bound for n, e in errors.items()} for dtype in linear.DTYPES}
        )

    yield judge(found)
    yield judge(found | {"wrong": pulled})
    yield judge(
        found
        | {"pulled": found["wrong"], "pushed": pushed + 1}
        | {"hv": (hv[0] + 1, *hv[1:]), "hw": (hw[0] - 1, *hw[1:])}
    )


def test_the_hessian_by_hand_is_the_second_difference_of_the_loss():
    primals, v, _, u, target = draw()
    hv = linear.by_hand(primals, v, u, target)[2]

    def value(h):
        x, weight, bias = (p[0] + h * d[0] for p, d in zip(primals, v, strict=True))
        return np.sum((x @ weight + bias - target[0]) ** 2) / 2

    # The loss is a polynomial of degree four: the second difference is h^2 / 12 of its fourth
    # derivative off, which is 12 |dx dW|^2; rounding adds four eps of the loss over h^2.
    h = 1e-2
    second = (value(h) - 2 * value(0.0) + value(-h)) / h**2
    second -= h**2 * np.sum((v[0][0] @ v[1][0]) ** 2)
    rounding = 4 * np.finfo(np.float64).eps * value(0.0) / h**2
    np.testing.assert_allclose(linear.pair(v, hv)[0], second, rtol=0, atol=10 * rounding)


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    assert [claim.text for claim in linear.check(good) if not claim.holds] == []
    failed = {
        claim.text for result in falsified for claim in linear.check(result) if not claim.holds
    }
    assert {claim.text for claim in linear.check(good)} == failed
