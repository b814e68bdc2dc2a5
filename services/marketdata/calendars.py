"""The exchanges' calendars: which days they trade and at which hours, holidays and half days included.

They are those of exchange_calendars, as the installed release of pandas_market_calendars gives them, with the
corrections of ``domain.known_days``. Later announcements of an exchange come with a later release. Its times of trading
after the close are not used, because it ends them with an early close. Each is held against a second source.

The library needs pandas, which would stay in the worker's memory with 80 MB. A process of its own therefore computes
the sessions and ends: ``python -m services.marketdata.calendars 2026-01-01 2026-12-31 first:XNYS second:XNYS``. It
writes a line for each. A calendar that raises, crashes or hangs ends the process, and another one computes the rest.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from services.marketdata.domain import holidays
from services.marketdata.domain.differences import Calendars, Times, compare
from services.marketdata.domain.known_days import corrected, is_forecast
from services.marketdata.domain.sessions import Hours, Session, sessions_of
from shared.contracts.markets import CURRENCIES, MARKETS, KnownMarket

#: The folder that the services are imported from.
ROOT = Path(__file__).parents[2]
#: Usual are eight seconds, of which the import of pandas is two. After so many time-outs the rest is left out.
TIMEOUT_SECONDS = 90.0
MOST_TIMEOUTS = 2
TOO_LONG = "the calendar took too long to compute"
#: The library's names of calendars that differ from the market's code. Nasdaq trades when New York does. The library's
#: XSHG has no holidays after the current year. Its SSE has those that can be foreseen.
NAMES = {"XNAS": "XNYS", "XSHG": "SSE"}
#: The calendars that pandas_market_calendars keeps itself, as the second source of those that exchange_calendars keeps.
SECOND = {
    "XNYS": "NYSE",
    "XNAS": "NYSE",
    "XTSE": "TSX",
    "XLON": "LSE",
    "XSWX": "SIX",
    "XTKS": "JPX",
    "XHKG": "HKEX",
    "XASX": "ASX",
}
#: The other way round: our XSHG is the former's SSE.
OURS_ALREADY = "XSHG"
#: Currencies trade from Monday to Friday, except on two days (the holidays that brokers of currencies publish).
_CLOSED_FOR_CURRENCIES = frozenset({(1, 1), (12, 25)})
_SATURDAY = 5


def compute_sessions(markets: Sequence[KnownMarket], first: date, last: date) -> Calendars:
    """Compute the sessions of the markets' trading days in another process, and compare them."""
    answers, failed = _compute(first, last, [f"{source}:{m.code}" for source in ("first", "second") for m in markets])
    found = Calendars()
    for code in (market.code for market in markets):
        if f"first:{code}" in failed:
            found.failed[code] = failed[f"first:{code}"]
            continue
        sessions = [_read(code, row) for row in answers[f"first:{code}"]]
        found.sessions.extend(sessions)
        second = answers.get(f"second:{code}")
        if second is None or second["days"] is None:
            found.unchecked[code] = failed.get(f"second:{code}", "there is no second source")
            continue
        until = date.fromisoformat(second["until"])
        known = [session for session in sessions if session.day <= until]
        other = {date.fromisoformat(day): _times(times) for day, times in second["days"].items()}
        found.differences.extend(compare(code, known, other, second["source"]))
    return found


def _compute(first: date, last: date, tasks: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The answers to the tasks, and the causes of those that failed. Each failed one ends a process."""
    answers: dict[str, Any] = {}
    failed: dict[str, str] = {}
    while tasks:
        lines, why = _run([str(first), str(last), *tasks])
        answers |= dict(zip(tasks, lines, strict=False))
        tasks = tasks[len(lines) :]
        if tasks:
            failed[tasks.pop(0)] = why
        if list(failed.values()).count(TOO_LONG) == MOST_TIMEOUTS:
            failed |= dict.fromkeys(tasks, "there was no time left after the others")
            break
    return answers, failed


def _run(arguments: Sequence[str]) -> tuple[list[Any], str]:
    """The lines that a process wrote before it ended, and why it wrote no more."""
    command = [sys.executable, "-m", __name__, *arguments]
    try:
        ended = subprocess.run(  # noqa: S603 - our own module, and the codes of known markets
            command, cwd=ROOT, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        return _lines(error.stdout or b""), TOO_LONG
    why = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "no message"
    return _lines(ended.stdout), f"computing the calendar ended with code {ended.returncode}: {why}"


def _lines(written: bytes) -> list[Any]:
    return [json.loads(line) for line in written.split(b"\n")[:-1]]


def _read(code: str, row: Sequence[Any]) -> Session:
    day, kind, begin, end, early, forecast = row
    times = datetime.fromisoformat(begin), datetime.fromisoformat(end)
    return Session(code, date.fromisoformat(day), kind, *times, early, forecast)


def _times(times: Sequence[str] | None) -> Times:
    return None if times is None else (datetime.fromisoformat(times[0]), datetime.fromisoformat(times[1]))


def main(first: str, last: str, *tasks: str) -> None:
    """Write the answer to each task to standard output, one line of JSON each."""
    days = date.fromisoformat(first), date.fromisoformat(last)
    for task in tasks:
        source, _, code = task.partition(":")
        if source == "second":
            answer: Any = second_source(code, *days)
        else:
            sessions = sessions_between(MARKETS[code], *days)
            answer = [
                [str(s.day), s.kind, str(s.open_at), str(s.close_at), s.early_close, s.forecast] for s in sessions
            ]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def sessions_between(market: KnownMarket, first: date, last: date) -> list[Session]:
    """The sessions of the trading days from ``first`` to ``last``, in order and in UTC."""
    found = _currency_hours(market, first, last) if market.code == CURRENCIES else _calendar_hours(market, first, last)
    really = (corrected(market, hours) for hours in found)
    return [session for hours in really if hours is not None for session in sessions_of(market, hours)]


def _calendar_hours(market: KnownMarket, first: date, last: date) -> list[Hours]:
    from pandas_market_calendars import get_calendar  # only in the process that computes

    calendar = get_calendar(NAMES.get(market.code, market.code))
    schedule = calendar.schedule(first, last)
    if schedule.empty:
        return []
    early = set(calendar.early_closes(schedule).index)
    return [
        Hours(
            day=day.date(),
            open_at=times["market_open"].to_pydatetime(),
            close_at=times["market_close"].to_pydatetime(),
            early_close=day in early,
            break_start=times["break_start"].to_pydatetime() if "break_start" in times else None,
            break_end=times["break_end"].to_pydatetime() if "break_end" in times else None,
            forecast=is_forecast(market, day.date()),
        )
        for day, times in schedule.to_dict("index").items()
    ]


def _currency_hours(market: KnownMarket, first: date, last: date) -> list[Hours]:
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    trading = (day for day in days if day.weekday() < _SATURDAY and (day.month, day.day) not in _CLOSED_FOR_CURRENCIES)
    bounds = ((day, market.day_bounds(day)) for day in trading)
    return [Hours(day, begin.astimezone(UTC), end.astimezone(UTC)) for day, (begin, end) in bounds]


def second_source(code: str, first: date, last: date) -> dict[str, Any]:
    """The days of the second source, each with its open and close where it has them, and the last day that it knows."""
    if code in holidays.HOLIDAYS:
        days = dict.fromkeys(map(str, holidays.trading_days(code, max(first, date(holidays.SINCE, 1, 1)), last)))
        return {"source": "the exchange's published holidays", "until": str(last), "days": days}
    if code in SECOND:
        from pandas_market_calendars import get_calendar

        schedule = get_calendar(SECOND[code]).schedule(first, last)
        days = {
            str(day.date()): [str(times["market_open"]), str(times["market_close"])]
            for day, times in schedule.to_dict("index").items()
        }
        return {"source": f"pandas_market_calendars {SECOND[code]}", "until": str(last), "days": days}
    if code != OURS_ALREADY:
        return {"source": None, "until": str(last), "days": None}
    from exchange_calendars import get_calendar  # type: ignore[import-untyped]

    until = min(last, get_calendar(code).bound_max().date())
    rows = get_calendar(code, start=str(first), end=str(until)).schedule.to_dict("index") if first <= until else {}
    days = {str(day.date()): [str(times["open"]), str(times["close"])] for day, times in rows.items()}
    return {"source": f"exchange_calendars {code}", "until": str(until), "days": days}


if __name__ == "__main__":
    main(*sys.argv[1:])
