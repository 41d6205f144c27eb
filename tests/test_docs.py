"""The code in the pages of `docs/` runs, as a reader would paste it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md"))
PRINTS = {
    "autodiff.md": [
        "[ nan  nan 0.25]\n[0.   0.   0.25]\n[0.   0.   0.25]\nsqrt",
        "abs 1.0",
        "i0 0.0",
    ],
    "bilevel.md": [
        "hypergrad has no derivative with respect to hp under Implicit",
        "5 False error",
        "hypergrad returns a derivative not to be relied on: it has not converged (an inner resid",
        "[1. 1.] True ['0.1667', '0.3333']",
        "['0.331', '-0.095', '-0.533', '0.152']",
        "['0.332', '-0.095', '-0.533', '0.153']",
        "['0.011', '-0.100', '-0.025', '0.233']\n" * 2,
        "deq ['0.331', '-0.095', '-0.533', '0.152']",
        "plan [1. 1.] multiplier 4.000\nwith the first bound moves [1. 1.]",
        "cube root 2.000, derivative 0.0833",
        # the pseudoinverse of the inputs, and that of the one column that is left
        "nonnegative 0.488 0.962 0.495 0.117 -0.481 0.105 0.383 0.181 True",
        "nonnegative 0.049 0.000 0.490 0.098 -0.490 -0.000 -0.000 -0.000 True",
    ],
    "curvature.md": [
        "Hessian [1002, 1002]\n  data  500 in 1 chunk\nEigenpairs\n",
        "converged     [ True  True  True]",
        "Adam may go faster: True\nless sharp in training: True\n",
        "loss_fn in chunks is another loss: True\nfinished in chunks is another loss: False\nif ",
        "Net 0.000\nKrylov: True, +- ",
        "\nHutchinson: True, +- ",
        "params/layers_0: blocks differ by 0.000\nparams/layers_2: blocks differ by 0.000\n",
        "LargestEigenvalue adaptive=True times 1.000\nAscent adaptive=True times 1.000\n",
        "AverageCase adaptive=True times 1.000\nCritical adaptive=True times 1.000\n",
        "whole is fine\nafresh draws\nof the limit: 0.3 at the start, 1.0 at the end",
        "frozen is worse: True\nalong an eigenvector: 1.0 of the eigenvalue",
        " straight, 0.00 along a curve\n['.png', '.svg']",
    ],
    "extending.md": [
        "RMSprop: [1. 1.]",
        "inputs of each unit: [15 15 15 15 15 15 15]",
        "dual norm: 7.0 by the direction: 7.0",
        "through the rounding: 4.0\nTrue",
        "by the last half: [1. 2.]",
        "argmin has no derivative with respect to hp under LastHalf; modes that define it: ",
        "by BiCGSTAB: [1. 1.]",
    ],
    "from_jaxopt.md": [
        "w 0.42 0.91\ndw/dlam -0.56 -0.50",
        "shares 0.02 0.78\ndshares/dtotal 0.71 0.29",
        "root 2.000, derivative 0.0833",
    ],
    "from_scipy.md": [
        "w 1.00 1.00 1.00 1.00 Converged",
        "at a bound: [1 0 0 0]",
        "fit 3.00 0.50",
        "root 1.00 1.00\nbracketed 2.000, slope 0.0833\nfixed 0.7391",
    ],
    "optimizers.md": [
        "[1. 1. 1. 1. 1. 1. 1. 1. 1. 1.] Converged",
        "['0.79', '0.62'] norm 1.000",
        "[0.5 0.5] 2.0",
        "['0.709', '0.500', '0.250'] [0 1 0]",
        " 10 0.995\n 20 0.046\nStopped: the callback asked for it.",
        "[2.  0.5]\n[1.5  0.37]\nStopped: the residuals, not yet 0, no longer depend on",
    ],
    "training.md": [
        "None\nNet (16,)\n['epoch', 'loss', 'validation_loss']\nTrue True",
        "['start', 'epoch', 'epoch'] 80 Finished 20 epochs.",
        "epoch,step,seconds,loss\n10,40,",
        "Stopped after epoch 5: the score did not rise by more than 0.01 in 2 epochs, best was -0.",
        "True True 5",
        "Stopped after epoch 2: stop returned True.\nTrue\nfloat32 [0. 1. 2. 3. 4. 5. 6. 7.]",
        "[ 6  7  8  9 10 11] (3, 2, 6)",
        "(2, 1, 5, 4, 10) True",
        "No pair can be told apart, whatever the times: 2 problems give p >= 0.5, and for 3 pairs",
        "resumed from step 40 True\nTrue [80, 80]\nTrue",
        "streamed: True\nbatches: 3.000\ncut over data",
        "(14, 4, 20)\n['configuration', 'decay', 'rate', 'key', 'loss', 'finite', 'done']\n",
        "True\n[8, 4, 2] 256 of 512",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )
    for line in PRINTS.get(page, []):
        assert line in run.stdout


def test_there_are_pages():
    assert set(PRINTS) <= set(PAGES)
