"""The market of an account: its clock and calendar are those that the account's clients see."""

from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.markets import DEFAULT_MARKET
from shared.storage.keyset import Record, records


def account_market(connection: Connection, account_id: UUID) -> Record:
    """Return the market's ``code``, ``timezone`` and ``always_open``.

    It is the ``market`` of the account's settings. Without one it is that on which most instruments in the account's
    currency trade, an exchange rather than a market that never closes, and none of crypto or currencies. Where no
    instrument has that currency, it is the market on which most instruments trade.
    """
    return records(connection, _ACCOUNT_MARKET, account_id=account_id, otherwise=DEFAULT_MARKET)[0]


_ACCOUNT_MARKET = text("""
WITH account AS (SELECT currency, settings ->> 'market' AS market FROM orders.accounts_v1 WHERE id = :account_id),
chosen AS (
  SELECT COALESCE(
    (SELECT market FROM account),
    (SELECT i.market FROM marketdata.instruments_v1 i JOIN marketdata.markets_v1 k ON k.code = i.market
     WHERE i.tradable AND i.currency = (SELECT currency FROM account) AND strpos(i.symbol, '/') = 0
     GROUP BY i.market, k.always_open ORDER BY k.always_open, count(*) DESC, i.market DESC LIMIT 1),
    (SELECT market FROM marketdata.instruments_v1 WHERE tradable
     GROUP BY market ORDER BY count(*) DESC, market LIMIT 1),
    :otherwise) AS market
)
SELECT m.code, m.timezone, m.always_open FROM marketdata.markets_v1 m JOIN chosen ON chosen.market = m.code
""")
