"""``paperprofit backtest FILE``: files of bars in, tables or JSON out, and mistakes by their line and field."""

import csv
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.strategy.backtest.command import main
from shared.storage.migrate import ROOT
from tests.unit.recorded_series import recorded

CROSSOVER = ("--strategy", "sma_crossover", "--parameters", '{"fast": 10, "slow": 20}')
FREE = ("--settings", '{"half_spread": 0}')


@pytest.fixture
def goog(tmp_path: Path) -> Path:
    """GOOG as price histories are mostly exported: dates without a name, plain columns, and one that is not used."""
    lines = [",Open,High,Low,Close,Adj Close,Volume"]
    for bar in recorded("GOOG").bars:
        numbers = (bar.open, bar.high, bar.low, bar.close, bar.close, bar.volume)
        lines.append(",".join([f"{bar.start:%Y-%m-%d}", *map(str, numbers)]))
    path = tmp_path / "goog.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["backtest", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_plain_price_history_is_traded(goog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(capsys, goog, *CROSSOVER, *FREE)

    assert found["symbols"] == ["GOOG"]
    assert (found["bars"], found["fills_total"], found["round_trips_total"]) == (2148, 93, 46)
    opens = {bar.start.isoformat(): bar.open for bar in recorded("GOOG").bars}
    assert all(fill["price"] == f"{opens[fill['bar']].normalize():f}" for fill in found["fills"])
    profits = [trip["profit"] for trip in found["round_trips"]]
    assert found["figures"]["trades"]["number"] == len(profits)
    assert found["equity"][-1]["equity"] == found["figures"]["end_equity"]


def test_the_trades_of_the_crossover_are_those_of_backtesting_py(
    goog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``backtesting_trades.csv`` has the trades that backtesting.py 0.6.5 closed on the same prices."""
    found = ran(capsys, goog, *CROSSOVER, *FREE)

    with (Path(__file__).parent / "backtesting_trades.csv").open() as lines:
        theirs = [
            (row["size"], row["entry"], row["exit"], Decimal(row["entry_price"]), Decimal(row["exit_price"]))
            for row in csv.DictReader(lines)
        ]
    ours = [
        (
            trip["qty"],
            trip["entry_bar"][:10],
            trip["exit_bar"][:10],
            Decimal(trip["entry_price"]),
            Decimal(trip["exit_price"]),
        )
        for trip in found["round_trips"]
    ]
    assert ours == theirs
    assert len(ours) == 46


def test_the_command_runs_without_a_server(goog: Path) -> None:
    done = subprocess.run(
        [ROOT / "paperprofit", "backtest", goog.name, *CROSSOVER],
        cwd=goog.parent,
        env={"PAPERPROFIT_PYTHON": sys.executable, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "round trips                             46" in done.stdout


def test_bars_of_the_documented_shape_give_the_same(
    goog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["symbol,interval,start,open,high,low,close,volume,provider"]
    for bar in recorded("GOOG").bars:
        numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        lines.append(",".join(["GOOG", "1d", bar.start.isoformat(), *map(str, numbers), "recording"]))
    documented = tmp_path / "bars.csv"
    documented.write_text("\n".join(lines))

    assert ran(capsys, documented, *CROSSOVER) == ran(capsys, goog, *CROSSOVER)


def test_the_table_has_the_figures_and_the_trades(goog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", str(goog), *CROSSOVER, "--look-ahead"]) == 0

    table = capsys.readouterr().out
    assert "GOOG: 2148 bars, 2004-08-19" in table
    assert "round trips                             46" in table
    assert "2004-12-06" in table
    assert "no decision changed" in table


def test_the_report_is_one_page_with_charts_and_nothing_from_elsewhere(
    goog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "report.html"
    found = ran(capsys, goog, *CROSSOVER, "--report", written)

    report = written.read_text()
    assert report.count("<svg") == 2
    assert report.count("<tr") == 1 + 46 + len(found["figures"]) - 1 + len(found["figures"]["trades"])
    assert not any(outside in report for outside in ("http", "<script", "<link", "src=", "url("))


def test_rules_and_sizing_are_read(goog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast, slow = ({"indicator": "sma", "period": bars} for bars in (10, 20))
    above, below = ({"left": fast, "op": op, "right": slow} for op in ("crosses_above", "crosses_below"))
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"long": {"entry": above, "exit": below}}))

    by_rules = ran(capsys, goog, "--rules", rules, "--sizing", '{"value": 7}')

    by_library = ran(capsys, goog, *CROSSOVER, "--sizing", '{"value": 7}')
    assert by_rules["fills"] == by_library["fills"]
    assert {fill["qty"] for fill in by_rules["fills"]} == {"7"}


def test_the_time_is_bounded_and_bars_before_it_warm_up(goog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ran(capsys, goog, *CROSSOVER)
    part = ran(capsys, goog, *CROSSOVER, "--from", "2008-01-01", "--to", "2009-01-01")

    bars = [fill["bar"] for fill in whole["fills"] if "2008-01-01" <= fill["bar"] < "2009-01-01"]
    assert [fill["bar"] for fill in part["fills"]] == bars[bars[0] != part["fills"][0]["bar"] :]
    assert part["equity"][0]["at"].startswith("2008-01-03")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strategy", "sma"), "there is no strategy 'sma', choose one of bollinger_reversion"),
        (("--strategy", "sma_crossover", "--parameters", '{"fast": 500}'), "parameters.fast: "),
        (("--strategy", "sma_crossover", "--parameters", '{"fsat": 5}'), "parameters.fsat: "),
        (("--strategy", "sma_crossover", "--parameters", "{fast}"), "--parameters: is not JSON"),
        (("--strategy", "macd", "--cash", "none"), "--cash: "),
        (("--strategy", "macd", "--sizing", '{"kind": "all"}'), "--settings.sizing.kind: "),
        (("--strategy", "macd", "--from", "2020-13-01"), "--from: '2020-13-01' is not a date"),
        (("--strategy", "macd", "--from", "2030-01-01"), "goog.csv: has no bars between --from and --to"),
        (("--strategy", "macd", "--interval", "5m"), "line 2: start: "),
        ((), "--strategy: give either --strategy, with its --parameters, or --rules"),
    ],
)
def test_a_wrong_argument_is_named(
    goog: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["backtest", str(goog), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Date,Open,High,Low,Close\n", "line 1: the header has no volume; write Date,Open,High,Low,Close,Volume"),
        ("Date,Open,High,Low,Close,Volume\n\n2020-01-02,1,2,1,x,5\n", "line 3: close: 'x' is not a decimal number"),
        ("Date,Open,High,Low,Close,Volume\n2020-01-02,1,2,1.5,1,5\n", "line 2: low: is above the open or the close"),
        ("Date,Open,High,Low,Close,Volume\n2.1.2020,1,2,1,1,5\n", "line 2: start: '2.1.2020' is not a time"),
        ("Date,Open,High,Low,Close,Volume\n" + "2020-01-02,1,2,1,1,5\n" * 2, "line 3: start: BARS has a bar of"),
        ("Date,Open,High,Low,Close,Volume\n", "bars.csv: has no bars"),
        ("", "line 1: the header has no date, open, high, low, close, volume"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(text)

    assert main(["backtest", str(path), *CROSSOVER]) == 2
    assert message in capsys.readouterr().err


def test_a_history_of_minutes_has_their_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"2026-01-05 10:{minute:02}:00,10,10,10,10,5" for minute in range(0, 50, 5)]
    path = tmp_path / "minutes.csv"
    path.write_text("\n".join(["Datetime,Open,High,Low,Close,Volume", *rows]))

    found = ran(capsys, path, "--strategy", "buy_and_hold")

    assert (found["from"], found["to"]) == ("2026-01-05T10:00:00+00:00", "2026-01-05T10:50:00+00:00")
