"""Daily closing prices of four shares, which come with the package."""

import io
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxopt_tut.blocks import shown
from jaxopt_tut.datasets.bundled import read_bundled

TICKERS = ("AAPL", "MSFT", "IBM", "GOOG")
FILE = resources.files("jaxopt_tut.datasets") / "data" / "daily_closes.npz"
SHA256 = "62b9a031f50eaa1d58e6f6f6d3ea20b6729b33ce8d38d78daf1b077393d91cbd"
_TICKS_PER_DOLLAR = 10_000  # the prices have at most four decimals: whole numbers pack well


@shown
class Closes(NamedTuple):
    """The closing prices of one share on its trading days, oldest first."""

    dates: Shaped[np.ndarray, "days"]
    """Days, as `datetime64[D]`."""
    closes: Float[np.ndarray, "days"]
    """What was paid, in dollars; jumps where the share was split."""
    adjusted: Float[np.ndarray, "days"]
    """The same without the jumps of splits and dividends: ratios of these are returns."""


def load_daily_closes() -> dict[str, Closes]:
    r"""Load the daily closing prices of AAPL, MSFT, IBM and GOOG from 2000-03-01 to 2013-03-01.

    $$\text{return} = \text{adjusted}_{t+1} / \text{adjusted}_t - 1$$

    A small real time series for forecasts. GOOG begins on 2004-08-19. Split it by date, not at
    random: a random split lets a model look into the future. Costs a few milliseconds.

    Returns:
      The series by ticker, as NumPy arrays in float64.

    Raises:
      ValueError: If the bundled file is not the one that the package was released with.

    Example:
      Apple's share was split two for one on the last day of February 2005.

      >>> apple = load_daily_closes()["AAPL"]
      >>> day = int(np.searchsorted(apple.dates, np.datetime64("2005-02-28")))
      >>> print(apple.closes[day - 1 : day + 1], str(apple.dates[0]), len(apple.dates))
      [88.99 44.86] 2000-03-01 3270
      >>> print((apple.adjusted[day] / apple.adjusted[day - 1]).round(3))
      1.008

    References:
      Quandl WIKI Prices, in the public domain, as `stocks.csv.gz` of bokeh_sampledata 2026.1.
      https://pypi.org/project/bokeh_sampledata
    """
    return unpack(read_bundled("load_daily_closes", FILE, SHA256))


def pack(series: dict[str, Closes]) -> bytes:
    """Pack series by ticker, of prices with at most four decimals, into an npz without pickles."""
    arrays = {}
    for ticker, (dates, closes, adjusted) in series.items():
        arrays[f"{ticker}_dates"] = dates.astype("M8[D]").astype(np.int32)
        arrays[f"{ticker}_closes"] = np.rint(closes * _TICKS_PER_DOLLAR).astype(np.int32)
        arrays[f"{ticker}_adjusted"] = adjusted.astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack(packed: bytes) -> dict[str, Closes]:
    """Read what `pack` wrote: the series by ticker."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        tickers = [name.removesuffix("_dates") for name in arrays if name.endswith("_dates")]
        return {
            ticker: Closes(
                dates=arrays[f"{ticker}_dates"].astype(np.int64).astype("M8[D]"),
                closes=arrays[f"{ticker}_closes"] / _TICKS_PER_DOLLAR,
                adjusted=arrays[f"{ticker}_adjusted"].astype(np.float64),
            )
            for ticker in tickers
        }
