"""What a race returns."""

import dataclasses
import os
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import Block
from jaxopt_tut.training.places import place_of_file
from jaxopt_tut.training.races import reading
from jaxopt_tut.training.races.comparison import Comparison, compare
from jaxopt_tut.training.races.confidence import Confidence, confidence
from jaxopt_tut.training.races.crossings import first_crossing
from jaxopt_tut.training.races.export import write_rows
from jaxopt_tut.training.races.profiles import Profiles, profiles
from jaxopt_tut.training.races.scores import Scores, scores
from jaxopt_tut.training.races.sensitivity import Sensitivity, sensitivity
from jaxopt_tut.training.races.times import Times, Unit, judge
from jaxopt_tut.training.races.tuning_cost import TuningCost, tuning_cost

__all__ = ["RaceTable"]

Names = TypeAliasType("Names", tuple[str, ...])
"""One for each row."""

RatesOf = TypeAliasType("RatesOf", Float[np.ndarray, "optimizers rates"])
"""Learning rates of each optimizer."""

SeedsOf = TypeAliasType("SeedsOf", Int[np.ndarray, " seeds"])
"""What tells repetitions apart."""

StepsOf = TypeAliasType("StepsOf", Int[np.ndarray, " evaluations"])
"""Numbers of updates."""

Losses = TypeAliasType("Losses", Float[np.ndarray, "optimizers problems rates seeds evaluations"])
"""A loss of every run at every evaluation."""

OfProblems = TypeAliasType("OfProblems", Float[np.ndarray, " problems"])
"""A number for each problem."""

OfPairs = TypeAliasType("OfPairs", Float[np.ndarray, "optimizers problems"])
"""A number for each optimizer on each problem."""

IndexOf = TypeAliasType("IndexOf", Int[np.ndarray, " optimizers"])
"""An index for each optimizer."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RaceTable(Block):
    """Losses of every optimizer on every problem, at every learning rate and seed.

    Optimizers may have different numbers of rates: the rows of those with fewer end in rates that
    are NaN, whose losses are inf. A run that diverged has losses of inf from there on, so a target
    is never reached by it, and no loss is NaN.

    Attributes:
      optimizers: Names, in the order of the first axis.
      problems: Names, in the order of the second axis.
      learning_rates: Rising in each row, NaN where an optimizer has fewer.
      seeds: What tells the starts and batches apart; the same for all optimizers and rates.
      steps: How many updates came before each evaluation, increasing.
      losses: The loss that is judged: over the problem's validation data where it has some.
      training_losses: The mean loss over the batches since the evaluation before.
      targets: The loss at which a problem counts as solved.
      seconds_per_step: Of one run alone, timed apart from the others; times in seconds are steps
        times these.
      default_rates: The index of each optimizer's default rate in its row, -1 where none is known.

    Example:
      A race run elsewhere, of two optimizers with one rate each, on one problem with two seeds:

      >>> falling = np.array([1.0, 0.6, 0.2])  # .4 in 10 steps: .5 is reached after 12.5
      >>> losses = np.stack([falling, falling / 1.2]).reshape(2, 1, 1, 1, 3).repeat(2, axis=3)
      >>> table = RaceTable(
      ...     ("slow", "fast"), ("line",), learning_rates=np.full((2, 1), 0.1), seeds=np.arange(2),
      ...     steps=np.array([0, 10, 20]), losses=losses, training_losses=losses,
      ...     targets=np.array([0.5]), seconds_per_step=np.ones((2, 1)),
      ...     default_rates=np.zeros(2, int))
      >>> print(table.times().steps[:, 0])
      [[12.5 12.5]
       [10.  10. ]]
      >>> print(table.scores().scores)  # (4 - 1.25) / 3 and 1
      [0.91666667 1.        ]
      >>> print(table.compare().notes[0][:44])
      No pair can be told apart, whatever the time
    """

    optimizers: Names = dataclasses.field(metadata={"static": True})
    problems: Names = dataclasses.field(metadata={"static": True})
    learning_rates: RatesOf
    seeds: SeedsOf
    steps: StepsOf
    losses: Losses
    training_losses: Losses
    targets: OfProblems
    seconds_per_step: OfPairs
    default_rates: IndexOf

    def _block(self) -> tuple[str, reading.Rows]:
        """Show how large the race was and how much of it arrives."""
        _, _, rates, seeds, _ = self.losses.shape
        reached = np.isfinite(self.crossings())
        best = np.max(np.mean(reached, axis=-1), axis=-1)
        rows = [[name, *(f"{v:.0%}" for v in best[o])] for o, name in enumerate(self.optimizers)]
        optimizers = reading.counted(len(self.optimizers), "optimizer")
        problems = reading.counted(len(self.problems), "problem")
        rates = "up to " + reading.counted(rates, "learning rate")
        seeds = reading.counted(seeds, "seed")
        title = f"RaceTable: {optimizers}, {problems}, {rates}, {seeds}, {self.steps[-1]} steps"
        lead = "share of the seeds that reach the target at the rate where most do"
        return title, reading.page(lead, ["", *self.problems], rows)

    def crossings(self) -> Float[np.ndarray, "optimizers problems rates seeds"]:
        r"""Return when every run first reaches its target, `inf` if it never does.

        $$t = s_{i-1} + (s_i - s_{i-1}) \frac{L_{i-1} - L^*}{L_{i-1} - L_i},
          \qquad i = \min\{j : L_j \le L^*\}$$

        A whole number of steps would tie all runs that cross between the same two evaluations.

        Returns:
          Steps, between two evaluations by linear interpolation of the loss, and 1 at least.
        """
        steps, targets = np.asarray(self.steps, np.float64), np.asarray(self.targets, np.float64)
        return first_crossing(np.asarray(self.losses), steps, targets[:, None, None])

    def times(self, *, choose: int | None = None) -> Times:
        """Choose each optimizer's rate on some seeds, and take its times on the others.

        The rate with the least mean log time is chosen, runs that do not arrive counting with the
        budget, and among rates that never arrive the one with the least mean final loss. Choosing
        and judging on the same seeds favours whoever has more rates: of 20 rates against 1 that are
        all the same, nine races in ten would find the 20 better. Cross-fitting is no remedy, for
        its folds share their seeds: the experiment `seed_luck` shows how often each errs.

        Args:
          choose: How many of the first seeds choose; None is half of them, and none of them where
            every optimizer has one rate. 0 chooses and judges on all seeds, and says so.

        Returns:
          Steps to the target of shape (optimizers, problems, judging seeds).

        Raises:
          TypeError: If `choose` is no whole number.
          ValueError: If it leaves no seed to judge.
        """
        return judge(
            np.asarray(self.losses),
            self.crossings(),
            np.asarray(self.learning_rates, np.float64),
            np.asarray(self.seconds_per_step, np.float64),
            first=float(self.steps[0]),
            budget=float(self.steps[-1]),
            seeds=np.asarray(self.seeds),
            optimizers=self.optimizers,
            problems=self.problems,
            choose=choose,
        )

    def profiles(
        self, unit: Unit = "steps", *, choose: int | None = None, max_ratio: float = 10.0
    ) -> Profiles:
        r"""Return on which share of the problems each optimizer is nearly the fastest.

        $$\rho_o(\tau) = \frac{1}{P} \Bigl|\Bigl\{p :
          t_{o,p} \le \tau \min_{o'} t_{o',p}\Bigr\}\Bigr|$$

        with medians $t_{o,p}$ over the judging seeds, and 95 % bands of a bootstrap over them.

        Args:
          unit: "steps" or "seconds".
          choose: How many seeds choose the rates, as in `times`.
          max_ratio: The last tau.

        Returns:
          The profiles from 1 to `max_ratio`.

        Raises:
          ValueError: If `max_ratio` is not finite and above 1, or there are no seconds.

        References:
          Dolan and Moré (2002), Benchmarking optimization software with performance profiles,
          equation 2.1. https://doi.org/10.1007/s101070100263
        """
        return profiles(self.times(choose=choose), unit, max_ratio=max_ratio)

    def scores(
        self,
        unit: Unit = "steps",
        *,
        choose: int | None = None,
        max_ratio: float = 4.0,
        algoperf: bool = False,
    ) -> Scores:
        r"""Return the area under each performance profile.

        $$\frac{1}{T - 1} \int_1^T \rho_o(\tau)\, d\tau
          = \frac{1}{P} \sum_p \frac{\max(0, T - r_{o,p})}{T - 1},
          \qquad r_{o,p} = t_{o,p} / \min_{o'} t_{o',p}$$

        A score depends on who else takes part, through the best time of each problem.

        Args:
          unit: "steps" or "seconds".
          choose: How many seeds choose the rates, as in `times`.
          max_ratio: T; 4 is AlgoPerf's.
          algoperf: Integrate by trapezoids between 100 points, as AlgoPerf's code does; the areas
            differ from the integral by up to 1/198.

        Returns:
          Scores from 0 to 1.

        Raises:
          ValueError: If `max_ratio` is not finite and above 1, or there are no seconds.

        References:
          Dahl et al. (2023), Benchmarking neural network training algorithms.
          https://arxiv.org/abs/2306.07179
        """
        return scores(self.times(choose=choose), unit, max_ratio=max_ratio, algoperf=algoperf)

    def confidence(
        self,
        unit: Unit = "steps",
        *,
        choose: int | None = None,
        max_ratio: float = 4.0,
        level: float = 0.95,
        num_draws: int = 2000,
        seed: int = 0,
    ) -> Confidence:
        """Bootstrap the scores: over seeds given the problems, and over problems too.

        A draw takes the same seeds and problems for all optimizers, who share starts and batches.
        Intervals given the problems say what another run of this race may find; those over
        problems what a race on other problems like these may find, and they are far wider.

        Args:
          unit: "steps" or "seconds".
          choose: How many seeds choose the rates, as in `times`.
          max_ratio: Where the area under the profiles ends.
          level: Of the intervals: those given the problems take normal quantiles, those over
            problems Student's.
          num_draws: How many draws; the error of a probability is half their inverse root at most.
          seed: Of the draws.

        Returns:
          Scores, both intervals, and both probabilities of the highest score.

        Raises:
          ValueError: If `level` lies outside (0, 1), `num_draws` is below 1, `max_ratio` is not
            finite and above 1, or there are no seconds.

        References:
          Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8.
        """
        return confidence(
            self.times(choose=choose),
            unit,
            max_ratio=max_ratio,
            level=level,
            num_draws=num_draws,
            seed=seed,
        )

    def compare(
        self,
        unit: Unit = "steps",
        *,
        over: Literal["seeds", "problems"] = "seeds",
        problem: str | None = None,
        choose: int | None = None,
        alpha: float = 0.05,
    ) -> Comparison:
        r"""Test every pair of optimizers by flipping signs, and adjust for the number of pairs.

        $$p = 2^{-n} \left|\left\{ s \in \{-1, 1\}^n :
          \left| \sum_i s_i d_i \right| \ge \left| \sum_i d_i \right| \right\}\right|,
          \qquad d_i = \log t_{o,i} - \log t_{o',i}$$

        One $i$ is a seed of a problem (both optimizers have its start and batches), or a problem
        with its mean over seeds. Times beyond the budget count with the budget. The p values are
        exact where the $d_i$ are independent and, if two optimizers are equal, each symmetric about
        0; Holm's method keeps the chance of *any* false claim at `alpha`.

        Args:
          unit: "steps" or "seconds".
          over: "seeds": do they differ on these problems? "problems": would they on others?
          problem: Compare on this one only.
          choose: How many seeds choose the rates, as in `times`.
          alpha: The chance of any false claim.

        Returns:
          Ratios and p values of all pairs, and a sentence where no outcome could have decided.

        Raises:
          ValueError: If `over` or `problem` is none of those there are, `alpha` lies outside
            (0, 1), or there are no seconds.

        References:
          Fisher (1935), The Design of Experiments, section 21. Holm (1979), A simple sequentially
          rejective multiple test procedure, Scand. J. Statist. 6:65.
        """
        times = self.times(choose=choose)
        return compare(times, unit, over=over, problem=problem, alpha=alpha)

    def sensitivity(self, *, level: float = 0.95) -> Sensitivity:
        """Return time and final loss at every learning rate, over all seeds.

        Medians near the budget jump to infinity from one seed to the next, so that each comes with
        an interval between order statistics.

        Args:
          level: Of the intervals; where the seeds are too few, what they reach is reported.

        Returns:
          Medians and their intervals, and the decades of rates over which each is near its best.

        Raises:
          ValueError: If `level` lies outside (0, 1).
        """
        return sensitivity(
            self.crossings(),
            np.asarray(self.losses[..., -1], np.float64),
            np.asarray(self.learning_rates, np.float64),
            level=level,
            budget=float(self.steps[-1]),
            optimizers=self.optimizers,
            problems=self.problems,
        )

    def tuning_cost(self, *, choose: int | None = None, replacement: bool = False) -> TuningCost:
        r"""Return the time to be expected of the best of k rates tried, beside the default's.

        $$\log t_k = \sum_{i=1}^R \frac{\binom{R-i}{k-1}}{\binom{R}{k}} \log t_{(i)}
          \quad\text{or}\quad
          \sum_{i=1}^R \left[\left(\tfrac{R-i+1}{R}\right)^k
          - \left(\tfrac{R-i}{R}\right)^k\right] \log t_{(i)}$$

        without and with replacement, where (i) is the i-th best rate on the seeds that choose, and
        its time that on the seeds that judge. That is the mean over all subsets of k rates.

        Args:
          choose: How many seeds rank the rates, as in `times`.
          replacement: Whether a rate may be tried twice.

        Returns:
          Expected steps for k from 1 to the number of rates.

        Raises:
          TypeError: If `choose` is no whole number.
          ValueError: If it leaves no seed to judge.

        References:
          Dodge et al. (2019), Show your work: improved reporting of experimental results,
          https://arxiv.org/abs/1909.03004, with replacement; Tang et al. (2020), Showing your work
          doesn't always work, https://arxiv.org/abs/2004.13705, without.
        """
        return tuning_cost(
            np.asarray(self.losses),
            self.crossings(),
            np.asarray(self.learning_rates, np.float64),
            np.asarray(self.default_rates),
            budget=float(self.steps[-1]),
            optimizers=self.optimizers,
            problems=self.problems,
            choose=choose,
            replacement=replacement,
        )

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write one row a run: who, where, its rate and seed, its losses and times.

        Args:
          path: Of the file, which is replaced; folders that are missing are made.

        Raises:
          TypeError: If it is no path.
          OSError: If it is that of a folder, or cannot be written to.
        """
        write_rows(
            place_of_file("RaceTable.to_csv", path),
            crossings=self.crossings(),
            losses=np.asarray(self.losses),
            learning_rates=np.asarray(self.learning_rates),
            seconds_per_step=np.asarray(self.seconds_per_step),
            default_rates=np.asarray(self.default_rates),
            seeds=np.asarray(self.seeds),
            optimizers=self.optimizers,
            problems=self.problems,
        )
