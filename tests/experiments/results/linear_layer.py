"""Results of `linear_layer`: one as it should be, then falsified ones."""

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
