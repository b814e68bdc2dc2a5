"""Choose the instruments that a poll asks for: those of markets that are due, the most wanted first.

A market is polled as often as its phase says: a closed one seldom, and one on a weekend more seldom. A symbol that has
no price yet is asked for at once, and one that a stream or a push has just brought not at all. Symbols that are held,
have resting orders or are traded by a strategy come first, then those on a watchlist: a spent limit leaves out the
rest. The next poll begins with those of each rank that have waited longest.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from services.marketdata.persistence import prices
from services.marketdata.providers.provider import Listed
from shared.bus.unit_of_work import ServiceContext

#: Its row of ``provider_states`` has the time of the last poll of each market.
POLLS = "polls"
#: Runs of the job are not evenly spaced. A market that is due this soon is due.
SLACK = timedelta(seconds=5)
#: The rank of the symbols that come after all others.
LAST = 2


def choose(context: ServiceContext, every: Mapping[str, timedelta], listed: Mapping[Listed, int]) -> dict[Listed, int]:
    """The instruments to ask for now, of those ``listed``. Their markets count as polled.

    ``every`` has the interval of each phase: regular, pre_market, after_hours, closed and weekend.
    """
    now = context.clock()
    with context.engine.begin() as connection:
        phases = connection.execute(_PHASES, {"markets": sorted({each.market for each in listed}), "now": now})
        intervals = {row.code: every[row.phase] for row in phases}
        polls = dict(prices.lock_provider_state(connection, POLLS) or {})
        due = {market for market, interval in intervals.items() if _is_due(polls.get(market), interval, now)}
        received = {row.symbol: row.received_at for row in connection.execute(_RECEIVED)}
        chosen = [
            each
            for each in listed
            if (at := received.get(each.symbol)) is None
            or (each.market in due and (at > now or at <= now - intervals[each.market] / 2))
        ]
        if due:
            prices.save_provider_state(connection, POLLS, polls | dict.fromkeys(due, now.isoformat()), now)
        ranks = most_wanted(connection)

    def turn(each: Listed) -> tuple[int, datetime, str]:
        return ranks.get(each.symbol, LAST), received.get(each.symbol) or _NEVER, each.symbol

    return {each: listed[each] for each in sorted(chosen, key=turn)}


def most_wanted(connection: Connection) -> dict[str, int]:
    """The ranks of symbols that come first.

    0 is that of symbols that are held, have open orders, or belong to an active strategy. 1 is that of symbols on a
    watchlist. Views of a service that has not started yet are left out.
    """
    there = connection.execute(_THERE).mappings().one()
    parts = [sql for service, sql in _RANKED if there[service]]
    if not parts:
        return {}
    rows = connection.execute(
        text(f"SELECT symbol, min(rank) AS rank FROM ({' UNION ALL '.join(parts)}) r GROUP BY symbol")
    )
    return {row.symbol: row.rank for row in rows}


def _is_due(last: str | None, interval: timedelta, now: datetime) -> bool:
    """True once the interval is over. A time ahead of the clock was written before the clock went back."""
    if last is None:
        return True
    at = datetime.fromisoformat(last)
    return at > now or now - at >= interval - SLACK


_NEVER = datetime.min.replace(tzinfo=UTC)
_PHASES = text("""
SELECT m.code, CASE
  WHEN m.always_open THEN 'regular'
  WHEN session.phase IS NOT NULL THEN session.phase
  WHEN extract(isodow FROM CAST(:now AS timestamptz) AT TIME ZONE m.timezone) >= 6 THEN 'weekend'
  ELSE 'closed' END AS phase
FROM marketdata.markets m
LEFT JOIN LATERAL (
  SELECT s.phase FROM marketdata.sessions_v2 s
  WHERE s.market = m.code AND s.open_at <= :now AND s.close_at > :now ORDER BY s.open_at DESC LIMIT 1
) session ON true
WHERE m.code = ANY(:markets)
""")
_RECEIVED = text("SELECT symbol, received_at FROM marketdata.instruments")
_THERE = text("""
SELECT COALESCE(has_table_privilege(to_regclass('orders.positions_v1'), 'SELECT')
                AND has_table_privilege(to_regclass('orders.orders_v1'), 'SELECT'), false) AS orders,
       COALESCE(has_table_privilege(to_regclass('strategy.symbols_v1'), 'SELECT'), false) AS strategy,
       COALESCE(has_table_privilege(to_regclass('gateway.watchlist_symbols_v1'), 'SELECT'), false) AS gateway
""")
_HELD = """
SELECT i.symbol, 0 AS rank FROM marketdata.instruments i
WHERE EXISTS (SELECT FROM orders.positions_v1 p WHERE p.symbol = i.symbol)
"""
_ORDERED = """
SELECT i.symbol, 0 AS rank FROM marketdata.instruments i
WHERE EXISTS (SELECT FROM orders.orders_v1 o
              WHERE o.symbol = i.symbol AND o.status IN ('accepted', 'held', 'partially_filled'))
"""
_TRADED = "SELECT symbol, 0 AS rank FROM strategy.symbols_v1"
_WATCHED = "SELECT symbol, 1 AS rank FROM gateway.watchlist_symbols_v1"
#: The statements of the ranks, with the service whose views they read.
_RANKED = (("orders", _HELD), ("orders", _ORDERED), ("strategy", _TRADED), ("gateway", _WATCHED))
