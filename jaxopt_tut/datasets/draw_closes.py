"""Draw the bundled prices from their source: `python -m jaxopt_tut.datasets.draw_closes FILE`.

For maintainers. FILE is `bokeh_sampledata/_data/stocks.csv.gz` of the wheel bokeh_sampledata
2026.1. Writes `data/daily_closes.npz` and prints its SHA-256, which belongs into `closes.py`.
"""

import csv
import gzip
import hashlib
import io
import sys
from pathlib import Path

import numpy as np

from jaxopt_tut.datasets.closes import FILE, TICKERS, Closes, pack

SOURCE_SHA256 = "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"


def draw(table: str) -> dict[str, Closes]:
    """Read the columns Date, Close and Adj Close of the four shares off the text of the table."""
    rows: dict[str, list] = {ticker: [] for ticker in TICKERS}
    for row in csv.DictReader(io.StringIO(table)):
        if row["Ticker"] in rows:
            rows[row["Ticker"]].append((row["Date"], row["Close"], row["Adj Close"]))
    series = {}
    for ticker, days in rows.items():
        if not days:
            raise ValueError(f"draw needs prices of {ticker}, got none.")
        dates, closes, adjusted = zip(*days, strict=True)
        dates = np.array(dates, "M8[D]")
        if not np.all(dates[1:] > dates[:-1]):
            raise ValueError(f"draw needs rising dates, got others for {ticker}.")
        series[ticker] = Closes(dates, np.array(closes, float), np.array(adjusted, float))
    return series


def main(arguments: list[str] | None = None) -> int:
    """Write the bundled file; the exit code is 1 if the source is another file."""
    (source,) = sys.argv[1:] if arguments is None else arguments
    packed = Path(source).read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != SOURCE_SHA256:
        print(f"draw_closes needs the file with SHA-256 {SOURCE_SHA256}, got {digest}.")
        return 1
    drawn = pack(draw(gzip.decompress(packed).decode()))
    Path(str(FILE)).write_bytes(drawn)
    print(f"{FILE}: {len(drawn)} bytes, SHA-256 {hashlib.sha256(drawn).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
