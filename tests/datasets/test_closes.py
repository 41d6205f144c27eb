import gzip

import numpy as np
import pytest

from jaxopt_tut.datasets import closes, draw_closes, load_daily_closes
from jaxopt_tut.datasets.closes import Closes, pack, unpack


def test_there_are_four_complete_series():
    series = load_daily_closes()
    assert {ticker: len(days.dates) for ticker, days in series.items()} == {
        "AAPL": 3270, "MSFT": 3270, "IBM": 3270, "GOOG": 2148,
    }  # fmt: skip
    for days in series.values():
        assert days.dates.dtype == np.dtype("M8[D]")
        assert np.all(np.diff(days.dates) > np.timedelta64(0, "D"))
        assert str(days.dates[-1]) == "2013-03-01"
        assert np.all(days.closes > 0)
        assert np.all(days.adjusted > 0)


def test_adjusted_prices_do_not_jump_where_a_share_was_split():
    apple = load_daily_closes()["AAPL"]
    # Apple's two splits in this time, two for one
    days = np.searchsorted(apple.dates, np.array(["2000-06-21", "2005-02-28"], "M8[D]"))
    assert np.all(apple.closes[days] / apple.closes[days - 1] < 0.6)
    assert np.all(np.abs(apple.adjusted[days] / apple.adjusted[days - 1] - 1) < 0.15)


def test_the_file_is_small():
    assert len(closes.FILE.read_bytes()) < 150_000


def test_packing_keeps_four_decimals():
    prices = np.array([0.0001, 27.95, 806.1875])
    days = Closes(np.arange(3).astype("M8[D]"), prices, prices.astype(np.float32).astype(float))
    for packed, original in zip(unpack(pack({"X": days}))["X"], days, strict=True):
        np.testing.assert_array_equal(packed, original)


def test_a_damaged_file_is_refused(monkeypatch, tmp_path):
    damaged = tmp_path / "daily_closes.npz"
    damaged.write_bytes(closes.FILE.read_bytes()[:-1])
    monkeypatch.setattr(closes, "FILE", damaged)
    with pytest.raises(ValueError, match=r"^load_daily_closes needs the bundled file with SHA-256"):
        load_daily_closes()


HEADER = "Ticker,Date,Close,Adj Close\n"


def test_a_missing_share_is_refused():
    with pytest.raises(ValueError, match=r"^draw needs prices of AAPL, got none\.$"):
        draw_closes.draw(HEADER)


def test_dates_that_fall_are_refused():
    rows = "AAPL,2001-01-02,1,1\nAAPL,2001-01-01,1,1\n"
    with pytest.raises(ValueError, match=r"^draw needs rising dates, got others for AAPL\.$"):
        draw_closes.draw(HEADER + rows)


def test_another_source_is_refused(tmp_path, capsys):
    other = tmp_path / "stocks.csv.gz"
    other.write_bytes(gzip.compress(HEADER.encode()))
    before = closes.FILE.read_bytes()
    assert draw_closes.main([str(other)]) == 1
    assert "draw_closes needs the file with SHA-256" in capsys.readouterr().out
    assert closes.FILE.read_bytes() == before
