"""``/api/account/positions``: the positions of an account with realized and open profit, and stale prices marked."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from services.gateway.accounts import queries as account_queries
from services.gateway.http.auth import ADMIN, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Answer, PlainNumber
from services.gateway.trading import account_queries as trading_queries
from services.gateway.trading.serializers import position_json
from shared.money import ZERO
from shared.observability.progress import PRICE_SECONDS

#: A price is stale once its market was open for this long without a new one, as in the summaries of valuation.
STALE_AFTER = timedelta(seconds=PRICE_SECONDS)


class PositionItem(Answer):
    """A position at its last price. ``price`` is in ``currency``, and all amounts are in the account's currency.

    A short position has a negative quantity, cost and value. ``realized_pl`` is that of the symbol in this account
    generation, and ``day_pl`` the profit since the close before. A ``stale`` price, or rate, is older than two minutes
    of open market. A figure whose price or rate is missing is null.
    """

    symbol: str
    side: str
    qty: PlainNumber
    price: PlainNumber | None
    currency: str
    market_value: PlainNumber | None
    cost_basis: PlainNumber
    unrealized_pl: PlainNumber | None
    realized_pl: PlainNumber
    day_pl: PlainNumber | None
    quoted_at: datetime | None
    stale: bool


class Positions(Answer):
    """The positions of an account by symbol, with their sums. A position without a value adds nothing to these."""

    account_id: UUID
    positions: list[PositionItem]
    market_value: PlainNumber
    unrealized_pl: PlainNumber
    stale_positions: int


async def get_account_positions(gateway: Gateway, principal: Principal) -> Positions:
    """List the positions of the key's account with their value, their profit and the age of their prices."""
    return await read(gateway, _positions, principal.account_id, gateway.context.clock())


async def get_account_positions_of(gateway: Gateway, account_id: UUID) -> Positions:
    """List the positions of an account.

    Raises NotFound for an unknown account.
    """
    if await read(gateway, account_queries.status, account_id) is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    return await read(gateway, _positions, account_id, gateway.context.clock())


def _positions(connection: Connection, account_id: UUID, now: datetime) -> Positions:
    more = {row.symbol: row for row in connection.execute(_MORE, _given(account_id, now))}
    items = []
    for row in trading_queries.positions(connection, account_id, now):
        shown, other = position_json(row), more.get(row["symbol"])
        items.append(
            PositionItem(
                symbol=shown["symbol"],
                side=shown["side"],
                qty=row["qty"],
                price=row["last"],
                currency=shown["currency"],
                market_value=_number(shown["market_value"]),
                cost_basis=row["cost_basis"],
                unrealized_pl=_number(shown["unrealized_pl"]),
                realized_pl=ZERO if other is None else other.realized_pl,
                day_pl=_number(shown["unrealized_intraday_pl"]),
                quoted_at=None if other is None else other.quoted_at,
                stale=other is not None and other.stale,
            )
        )
    return Positions(
        account_id=account_id,
        positions=items,
        market_value=sum((each.market_value or ZERO for each in items), ZERO),
        unrealized_pl=sum((each.unrealized_pl or ZERO for each in items), ZERO),
        stale_positions=sum(each.stale for each in items),
    )


def _given(account_id: UUID, now: datetime) -> dict[str, Any]:
    return {"account_id": account_id, "now": now, "stale_after": STALE_AFTER}


def _number(shown: str | None) -> Decimal | None:
    return None if shown is None else Decimal(shown)


#: Time in which the market is closed does not age a price.
_MORE = text("""
SELECT p.symbol, p.quoted_at, COALESCE(r.pl, 0) AS realized_pl, EXISTS (
  SELECT FROM marketdata.instruments_v1 i
  CROSS JOIN LATERAL (SELECT CASE WHEN i.delayed THEN i.received_at ELSE i.quoted_at END AS at) q
  JOIN marketdata.sessions_v1 s ON s.market = i.market AND s.open_at < :now AND s.close_at > q.at
  WHERE i.symbol IN (p.symbol, p.rate_symbol) AND i.last IS NOT NULL AND i.halted_at IS NULL
    AND LEAST(s.close_at, :now) > GREATEST(s.open_at, q.at) + CAST(:stale_after AS interval)
) AS stale
FROM valuation.current_positions_v1 p
LEFT JOIN (
  SELECT t.symbol, sum(t.realized_pl) AS pl FROM orders.round_trips_v1 t
  JOIN orders.accounts_v1 a ON a.id = t.account_id AND a.generation = t.generation
  WHERE t.account_id = :account_id GROUP BY t.symbol
) r ON r.symbol = p.symbol
WHERE p.account_id = :account_id
""")
endpoints = (
    Endpoint("GET", "/api/account/positions", get_account_positions, READ),
    Endpoint("GET", "/api/accounts/{account_id}/positions", get_account_positions_of, ADMIN),
)
