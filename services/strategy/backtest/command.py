"""``paperprofit backtest FILE.csv``: run a strategy on the bars of a file, without any server."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from services.strategy.backtest import look_ahead, tables
from services.strategy.backtest.calendars import calendar_of
from services.strategy.backtest.files import series_of_file
from services.strategy.backtest.outcome import outcome
from services.strategy.backtest.request import WrongRequest, sentence, setup_of, strategy_of
from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Setup
from services.strategy.strategies.guard import StrategyFailed
from services.strategy.strategies.registry import strategies
from shared.backtest_report import page
from shared.bar_files import WrongFile
from shared.clock import utc_now
from shared.contracts.backtests import BacktestSettings, StrategyChoice
from shared.contracts.bars import Interval
from shared.contracts.written import check_number, read_json

#: The bytes of a file of rules.
MOST_BYTES = 1_000_000


class Given(BaseModel):
    """The checked arguments of the command."""

    choice: StrategyChoice
    settings: BacktestSettings
    cash: Decimal
    begin: datetime | None
    end: datetime | None


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns 2 for wrong arguments or a wrong file, which it names on the standard error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _backtest(options)
    except (WrongFile, WrongRequest, StrategyFailed) as error:
        sys.stderr.write(f"paperprofit backtest: {error}\n")
        return 2


def _backtest(options: argparse.Namespace) -> int:
    given = _given(options)
    setup = setup_of(strategy_of(given.choice), given.settings, given.cash, given.begin)
    series = series_of_file(
        options.file,
        utc_now(),
        interval=options.interval,
        symbol=options.symbol,
        begin=given.begin,
        end=given.end,
    )
    missing = setup.strategy.missing_symbol(each.symbol for each in series)
    if missing is not None:
        raise WrongRequest(f"parameters.{missing}")
    if options.market is not None:
        series = _on_market(options.market, series)
    found = _described(given, setup, series)
    if options.look_ahead:
        found["look_ahead"] = look_ahead.check(setup, series)
    if options.report is not None:
        _write(options.report, page(found, f"{found['strategy']['kind']} on {', '.join(found['symbols'][:5])}"))
    written = json.dumps(found, indent=2, allow_nan=False) if options.json else tables.text_of(found)
    sys.stdout.write(written + "\n")
    return 1 if found.get("look_ahead", {}).get("changed") else 0


def _on_market(code: str, series: Sequence[Series]) -> list[Series]:
    """The series with the sessions of their market. Raises WrongRequest."""
    begin = min(each.bars[0].start for each in series).date() - timedelta(days=1)
    end = max(each.bars[-1].start for each in series).date() + timedelta(days=10)
    try:
        calendar = calendar_of(code, begin, end)
    except ValueError as error:
        raise WrongRequest(f"--market: {error}") from None
    return [replace(each, calendar=calendar) for each in series]


def _described(given: Given, setup: Setup, series: Sequence[Series]) -> dict[str, Any]:
    kind, parameters = given.choice.named
    return {
        "strategy": {"kind": kind, "parameters": parameters},
        "symbols": [each.symbol for each in series],
        "from": min(each.bars[0].start for each in series).isoformat(),
        "to": max(each.bars[-1].start + each.interval for each in series).isoformat(),
        **outcome(run(setup, series), given.begin),
    }


def _given(options: argparse.Namespace) -> Given:
    """The checked arguments. Raises WrongRequest."""
    if (options.strategy is None) == (options.rules is None):
        raise WrongRequest("--strategy: give either --strategy, with its --parameters, or --rules")
    chosen: dict[str, Any] = {"kind": options.strategy, "parameters": _object("--parameters", options.parameters)}
    if options.rules is not None:
        chosen = {"rules": _object("--rules", _text_of(options.rules)), "parameters": chosen["parameters"]}
    settings = _object("--settings", options.settings)
    if options.sizing is not None:
        settings["sizing"] = _object("--sizing", options.sizing)
    begin, end = _moment("--from", options.begin), _moment("--to", options.end)
    if begin is not None and end is not None and begin >= end:
        raise WrongRequest("--from: must be before --to")
    return Given(
        choice=_valid(StrategyChoice, chosen, "--strategy"),
        settings=_valid(BacktestSettings, settings, "--settings"),
        cash=_cash(options.cash),
        begin=begin,
        end=end,
    )


def _valid(model: Any, given: dict[str, Any], option: str) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise WrongRequest(sentence(error, option)) from None


def _object(option: str, text: str | None) -> dict[str, Any]:
    """The JSON object of an option. Raises WrongRequest."""
    try:
        found = read_json((text or "{}").encode())
    except ValueError as error:
        raise WrongRequest(f"{option}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise WrongRequest(f'{option}: must be a JSON object such as {{"fast": 10}}')
    return found


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongRequest(f"--rules: {path}: {error}") from None
    if len(text) > MOST_BYTES:
        raise WrongRequest(f"--rules: {path}: is larger than {MOST_BYTES} bytes")
    return text


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongRequest(f"--report: {path}: {error.strerror}") from None


def _moment(option: str, text: str | None) -> datetime | None:
    """The time of an option, in UTC where it has no zone. Raises WrongRequest."""
    try:
        found = datetime.fromisoformat(text) if text is not None else None
    except ValueError:
        raise WrongRequest(f"{option}: {text!r} is not a date such as 2020-01-31") from None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def _cash(text: str) -> Decimal:
    try:
        cash = Decimal(check_number(text))
    except ValueError as error:
        raise WrongRequest(f"--cash: {error}") from None
    if not 0 < cash <= Decimal(10) ** 12 or cash != round(cash, 2):
        raise WrongRequest(f"--cash: {text} is not an amount of at most 1e12 with at most two decimals")
    return cash


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paperprofit", description="Commands that need no server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    backtest = commands.add_parser(
        "backtest",
        help="run a strategy on the bars of a file",
        description="Run a strategy on the bars of a file: CSV with the columns Date,Open,High,Low,Close,Volume, or "
        "bars as docs/market-data.md describes them, also as Parquet.",
        epilog=f"Strategies: {', '.join(sorted(set(strategies()) - {'rules'}))}. docs/strategies.md describes them.",
    )
    add = backtest.add_argument
    add("file", type=Path, metavar="FILE")
    add("--strategy", metavar="KIND", help="a strategy of the library, such as sma_crossover")
    add("--parameters", metavar="JSON", help='its parameters, such as \'{"fast": 10, "slow": 20}\'')
    add("--rules", type=Path, metavar="FILE", help="a strategy of rules in a file of JSON")
    add("--cash", default="100000", help="the account's cash at the beginning (100000)")
    add("--sizing", metavar="JSON", help='the size of entries, such as \'{"kind": "equity", "value": "0.5"}\'')
    add("--settings", metavar="JSON", help="the account's settings: fills, limits, margin; and half_spread")
    add("--from", dest="begin", metavar="DATE", help="decide from then on; bars before it warm up the indicators")
    add("--to", dest="end", metavar="DATE", help="leave out bars from then on")
    add("--interval", choices=[str(each) for each in Interval], help="the bars' interval, where the file does not say")
    add("--market", metavar="CODE", help="the market whose sessions count, such as XNYS (none: it never closes)")
    add("--symbol", help="the symbol of a file without such a column (its name)")
    add("--look-ahead", action="store_true", help="run again on truncated bars, and report decisions that change")
    add("--report", type=Path, metavar="FILE.html", help="write a page with charts, which needs nothing from elsewhere")
    add("--json", action="store_true", help="print JSON instead of tables")
    return parser
