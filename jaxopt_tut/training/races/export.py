"""A race as rows for whatever reads comma-separated values."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

COLUMNS = (
    "optimizer",
    "problem",
    "learning_rate",
    "is_default",
    "seed",
    "final_loss",
    "best_loss",
    "steps_to_target",
    "seconds_to_target",
)


def write_rows(
    path: Path,
    *,
    crossings: Float[np.ndarray, "optimizers problems rates seeds"],
    losses: Float[np.ndarray, "optimizers problems rates seeds evaluations"],
    learning_rates: Float[np.ndarray, "optimizers rates"],
    seconds_per_step: Float[np.ndarray, "optimizers problems"],
    default_rates: Int[np.ndarray, "optimizers"],
    seeds: Int[np.ndarray, "seeds"],
    optimizers: tuple[str, ...],
    problems: tuple[str, ...],
) -> None:
    """Write a row a run; `inf` stands for a target not reached, and padding is left out."""
    best = losses.min(axis=-1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for o, p, r, s in np.ndindex(*crossings.shape):
            if not np.isfinite(learning_rates[o, r]):
                continue
            time = crossings[o, p, r, s]
            writer.writerow(
                [
                    optimizers[o],
                    problems[p],
                    float(learning_rates[o, r]),
                    bool(default_rates[o] == r),
                    int(seeds[s]),
                    float(losses[o, p, r, s, -1]),
                    float(best[o, p, r, s]),
                    float(time),
                    float(time * seconds_per_step[o, p]),
                ]
            )
