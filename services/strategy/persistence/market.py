"""Bars, prices, accounts and sessions from the views of other services, each in one statement for all strategies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, text

from services.strategy.strategies.columns import Days, days_from
from services.strategy.strategies.view import Bar, Quote, Session
from shared.contracts.accounts import AccountSettings
from shared.contracts.bars import LENGTHS
from shared.exchange.margin import buying_power

#: The bars of the replay come as they are pushed, and each is whole at once.
REPLAY = "replay"
#: The length of a bar of each interval.
INTERVALS: Mapping[str, timedelta] = {
    **{str(interval): length for interval, length in LENGTHS.items()},
    REPLAY: timedelta(seconds=1),
}

#: Symbol and interval.
SeriesKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class InstrumentRow:
    """An instrument with its newest price, which is None before the first one."""

    symbol: str
    market: str
    currency: str
    quote: Quote | None
    #: The splits that its prices have seen.
    splits: int = 0


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account in its own currency. ``generation_at`` is when it was reset last.

    ``halt_id`` is its last halt by a risk limit. ``halt_reason`` is None if none stands.
    """

    id: UUID
    currency: str
    generation: int
    generation_at: datetime | None
    equity: Decimal
    cash: Decimal
    buying_power: Decimal
    shorting: bool = True
    halt_id: UUID | None = None
    halt_reason: str | None = None


def bars(
    connection: Connection, wanted: Mapping[SeriesKey, tuple[int, datetime | None]], now: datetime
) -> dict[SeriesKey, list[Bar]]:
    """The last complete bars of each series in today's shares, oldest first.

    At most as many as wanted, and none that began before the time beside that number.
    """
    keys = list(wanted)
    whole = {interval: timedelta(0) if interval == REPLAY else length for interval, length in INTERVALS.items()}
    found: dict[SeriesKey, list[Bar]] = {key: [] for key in keys}
    rows = connection.execute(
        _BARS,
        {
            "symbols": [symbol for symbol, _ in keys],
            "intervals": [interval for _, interval in keys],
            "most": [most for most, _ in wanted.values()],
            "since": [since for _, since in wanted.values()],
            "until": [now - whole.get(interval, timedelta(0)) for _, interval in keys],
        },
    ).all()  # one by one they would take four times as long
    for row in rows:
        found[keys[row[0] - 1]].append(Bar(*row[1:]))
    return found


def with_bars(connection: Connection, symbols: Sequence[str], interval: str) -> set[str]:
    """Those of the symbols that have at least one bar of the interval."""
    return set(connection.execute(_WITH_BARS, {"symbols": list(symbols), "interval": interval}).scalars())


def instruments(connection: Connection, symbols: Sequence[str]) -> dict[str, InstrumentRow]:
    """The instruments that there are, by symbol. Retired ones are left out."""
    return {
        row.symbol: InstrumentRow(
            row.symbol,
            row.market,
            row.currency,
            None if row.last is None else Quote(row.last, row.quoted_at, row.bid, row.ask),
            row.split_count,
        )
        for row in connection.execute(_INSTRUMENTS, {"symbols": list(symbols)})
    }


def rates(connection: Connection) -> dict[tuple[str, str], Decimal]:
    """The price of a unit of the first currency in the second one."""
    return {(row.currency, row.account_currency): row.last for row in connection.execute(_RATES)}


def accounts(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, AccountRow]:
    """The open accounts at current prices, by id."""
    found = {}
    for row in connection.execute(_ACCOUNTS, {"ids": list(ids)}):
        settings = AccountSettings.model_validate(row.settings)
        power = buying_power(
            equity=row.equity,
            long_value=row.long_value,
            short_value=row.short_value,
            reserved=row.reserved,
            multiplier=settings.multiplier,
        )
        found[row.id] = AccountRow(
            row.id,
            row.currency,
            row.generation,
            row.generation_at,
            row.equity,
            row.cash,
            power,
            settings.shorting,
            row.halt_id,
            row.halt_reason,
        )
    return found


def sessions(connection: Connection, markets: Sequence[str], now: datetime) -> dict[str, Session]:
    """Regular trading of each market's present day. A market that never closes, or does not open today, is left out."""
    rows = connection.execute(_SESSIONS, {"markets": list(markets), "now": now})
    return {row.market: Session(row.open_at, row.close_at) for row in rows}


def trading_days(connection: Connection, markets: Sequence[str], begin: datetime, end: datetime) -> dict[str, Days]:
    """The opens and closes of each market's days in that time. A market that never closes is left out."""
    found: dict[str, list[Session]] = {}
    for row in connection.execute(_TRADING_DAYS, {"markets": list(markets), "begin": begin, "end": end}):
        found.setdefault(row.market, []).append(Session(row.open_at, row.close_at))
    return {market: days_from(known) for market, known in found.items()}


_TRADING_DAYS = text("""
SELECT d.market, d.open_at, d.close_at
FROM marketdata.markets_v1 m JOIN marketdata.trading_days_v1 d ON d.market = m.code
WHERE m.code = ANY(:markets) AND NOT m.always_open
  AND d.day BETWEEN CAST(CAST(:begin AS timestamptz) AS date) - 1 AND CAST(CAST(:end AS timestamptz) AS date) + 1
ORDER BY d.market, d.open_at
""")
_BARS = text("""
SELECT k.series, b.start_at, b.open, b.high, b.low, b.close, b.volume
FROM unnest(CAST(:symbols AS text[]), CAST(:intervals AS text[]), CAST(:most AS integer[]),
            CAST(:until AS timestamptz[]), CAST(:since AS timestamptz[]))
  WITH ORDINALITY AS k (symbol, interval, most, until, since, series)
CROSS JOIN LATERAL (
  SELECT b.start_at, b.open, b.high, b.low, b.close, b.volume FROM marketdata.bars_v2 b
  WHERE b.symbol = k.symbol AND b.interval = k.interval AND b.start_at <= k.until
    AND b.start_at >= COALESCE(k.since, '-infinity')
  ORDER BY b.start_at DESC LIMIT k.most
) b
ORDER BY k.series, b.start_at
""")
_WITH_BARS = text("""
SELECT s.symbol FROM unnest(CAST(:symbols AS text[])) AS s (symbol)
WHERE EXISTS (SELECT FROM marketdata.bars_v1 b WHERE b.symbol = s.symbol AND b.interval = :interval)
""")
_INSTRUMENTS = text("""
SELECT symbol, market, currency, last, bid, ask, quoted_at, split_count FROM marketdata.instruments_v1
WHERE symbol = ANY(:symbols) AND status = 'active'
""")
_RATES = text("SELECT currency, account_currency, last FROM marketdata.rates_v1")
_ACCOUNTS = text("""
SELECT a.id, a.currency, a.generation, a.generation_at, a.cash, a.reserved, a.settings, a.halt_id, a.halt_reason,
       v.equity, v.long_value, v.short_value
FROM orders.accounts_v1 a JOIN valuation.account_values_v1 v ON v.account_id = a.id
WHERE a.id = ANY(:ids) AND a.status = 'ACTIVE'
""")
_SESSIONS = text("""
SELECT d.market, d.open_at, d.close_at
FROM marketdata.markets_v1 m JOIN marketdata.trading_days_v1 d ON d.market = m.code
WHERE m.code = ANY(:markets) AND NOT m.always_open
  AND d.day = CAST(CAST(:now AS timestamptz) AT TIME ZONE m.timezone AS date)
""")
