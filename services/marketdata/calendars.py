"""The exchanges' calendars: which days they trade and at which hours, holidays and half days included.

They come with the installed release of pandas_market_calendars. Later announcements of an exchange come with a later
release. Its times of trading after the close are not used, because it ends them with an early close.

The library needs pandas, which would stay in the worker's memory with 80 MB. A process of its own therefore computes
the sessions and ends: ``python -m services.marketdata.calendars 2026-01-01 2026-12-31 XNYS XTKS``.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from services.marketdata.domain.sessions import Hours, Session, sessions_of
from shared.contracts.markets import MARKETS, KnownMarket

#: The folder that the services are imported from.
ROOT = Path(__file__).parents[2]
#: Usual are five seconds, of which the import of pandas is two.
TIMEOUT_SECONDS = 120.0
#: The library's names of calendars that differ from the market's code. Nasdaq trades when New York does. The library's
#: XSHG has no holidays after the current year. Its SSE has those that can be foreseen.
NAMES = {"XNAS": "XNYS", "XSHG": "SSE"}


class CalendarsFailed(Exception):
    """The process that computes the sessions failed or took too long. The message has the last line that it wrote."""


def compute_sessions(markets: Sequence[KnownMarket], first: date, last: date) -> list[Session]:
    """Compute the sessions of the markets' trading days in another process. Raises CalendarsFailed."""
    command = [sys.executable, "-m", __name__, str(first), str(last), *(market.code for market in markets)]
    try:
        ended = subprocess.run(  # noqa: S603 - our own module, and the codes of known markets
            command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CalendarsFailed(f"the calendars took longer than {TIMEOUT_SECONDS:g} s to compute") from error
    if ended.returncode:
        why = ended.stderr.strip().rpartition("\n")[2] or "no message"
        raise CalendarsFailed(f"computing the calendars ended with code {ended.returncode}: {why}")
    return [
        Session(code, date.fromisoformat(day), kind, datetime.fromisoformat(begin), datetime.fromisoformat(end), early)
        for code, day, kind, begin, end, early in json.loads(ended.stdout)
    ]


def main(first: str, last: str, *codes: str) -> None:
    """Write the sessions of the markets to standard output, as JSON."""
    days = date.fromisoformat(first), date.fromisoformat(last)
    sessions = [session for code in codes for session in sessions_between(MARKETS[code], *days)]
    rows = [[s.market, str(s.day), s.kind, str(s.open_at), str(s.close_at), s.early_close] for s in sessions]
    json.dump(rows, sys.stdout)


def sessions_between(market: KnownMarket, first: date, last: date) -> list[Session]:
    """The sessions of the trading days from ``first`` to ``last``, in order and in UTC."""
    from pandas_market_calendars import get_calendar  # only in the process that computes

    calendar = get_calendar(NAMES.get(market.code, market.code))
    schedule = calendar.schedule(first, last)
    if schedule.empty:
        return []
    early = set(calendar.early_closes(schedule).index)
    sessions = []
    for day, times in schedule.to_dict("index").items():
        hours = Hours(
            day=day.date(),
            open_at=times["market_open"].to_pydatetime(),
            close_at=times["market_close"].to_pydatetime(),
            early_close=day in early,
            break_start=times["break_start"].to_pydatetime() if "break_start" in times else None,
            break_end=times["break_end"].to_pydatetime() if "break_end" in times else None,
        )
        sessions += sessions_of(market, hours)
    return sessions


if __name__ == "__main__":
    main(*sys.argv[1:])
