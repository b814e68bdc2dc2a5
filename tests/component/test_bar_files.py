"""Files of bars by command: all or nothing, or without the lines that it names."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from services.marketdata import export_bars, import_bars
from shared.bus.unit_of_work import ServiceContext
from tests.component.watching import marketdata_at
from tests.conftest import FakeClock
from tests.support import value

HEADER = "symbol,interval,start,open,high,low,close,volume\n"
GOOD = "AAPL,1d,2026-03-09,10,12,9,11,100\nMSFT,1d,2026-03-09,20.5,22,19,21,200\n"
COUNT = "SELECT count(*) FROM marketdata.market_data"


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with marketdata_at(datetime(2026, 3, 16, 12, tzinfo=UTC), urls, clock) as context:
        yield context


def test_a_file_is_imported_and_exported_in_both_formats(
    marketdata: ServiceContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each can be imported again and then changes nothing."""
    source = tmp_path / "bars.csv"
    source.write_text(HEADER + GOOD)
    assert import_bars.main([str(source)], marketdata) == 0
    assert capsys.readouterr().out == "2 bars read, 2 new or changed, 0 lines left out\n"
    for name in ("out.csv", "out.parquet"):
        target = tmp_path / name
        asked = [str(target), "--symbols", "aapl,MSFT", "--interval", "1d", "--from", "2026-01-01"]
        assert export_bars.main(asked, marketdata) == 0
        assert capsys.readouterr().out.startswith("2 bars written")
        assert import_bars.main([str(target)], marketdata) == 0
        assert capsys.readouterr().out == "2 bars read, 0 new or changed, 0 lines left out\n"
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == [
        "AAPL,1d,2026-03-09T00:00:00Z,10,12,9,11,100,import",
        "MSFT,1d,2026-03-09T00:00:00Z,20.5,22,19,21,200,import",
    ]


def test_a_wrong_line_refuses_the_file_or_is_left_out(
    marketdata: ServiceContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by its number and field."""
    source = tmp_path / "bars.csv"
    source.write_text(HEADER + GOOD + "AAPL,1d,2026-03-10,10,9,9,11,100\nTSLA,1d,2026-03-10,1,1,1,1,1\n")
    assert import_bars.main([str(source)], marketdata) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "bars.csv, line 4, high: is below the open or the close"
    assert told[1].startswith("bars.csv, line 5, symbol: unknown instrument TSLA")
    assert value(marketdata.engine, COUNT) == 0
    assert import_bars.main([str(source), "--partial"], marketdata) == 0
    assert capsys.readouterr().out == "2 bars read, 2 new or changed, 2 lines left out\n"


def test_a_parquet_of_another_tool_is_read(
    marketdata: ServiceContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Floating point numbers by their digits, and timestamps by their zone. One without a zone is refused."""
    source = tmp_path / "bars.parquet"
    start = datetime(2026, 3, 9, 15, 30)  # noqa: DTZ001
    columns = {name: [0.1 + 0.2] for name in ("open", "high", "low", "close", "volume")}
    for zone, code in ((None, 1), ("America/New_York", 0)):
        times = pa.array([start], pa.timestamp("ms", zone))
        parquet.write_table(pa.table({"symbol": ["AAPL"], "start": times, **columns}), source)
        assert import_bars.main([str(source), "--interval", "1m"], marketdata) == code
    assert "line 1, start: " in capsys.readouterr().err
    assert value(marketdata.engine, "SELECT close FROM marketdata.bars_v1 WHERE interval = '1m'") == Decimal("0.3")


@pytest.mark.parametrize("name", ["bars.csv", "bars.parquet"])
def test_a_file_that_cannot_be_read_is_refused(
    marketdata: ServiceContext, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, and without a traceback."""
    source = tmp_path / name
    source.write_bytes(b"\xff\xfe not bars")
    assert import_bars.main([str(source)], marketdata) == 1
    assert capsys.readouterr().err.startswith("nothing imported: ")
