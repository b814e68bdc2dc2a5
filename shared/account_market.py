"""The market of an account: its clock and calendar are those that the account's clients see."""

from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.markets import DEFAULT_MARKET
from shared.storage.keyset import Record, records


def account_market(connection: Connection, account_id: UUID) -> Record:
    """Return the market's ``code``, ``timezone`` and ``always_open``.

    It is the ``market`` of the account's settings. Without one it is that on which most instruments in the account's
    currency trade, an exchange rather than a market that never closes, and none of crypto or currencies. It
    is the market on which most instruments trade if none has that currency.
    """
    return records(connection, _ACCOUNT_MARKET, account_id=account_id, otherwise=DEFAULT_MARKET)[0]


def markets_of_accounts(connection: Connection) -> list[Record]:
    """Return the market for each ``currency`` and ``setting`` of the accounts, chosen as for one account.

    ``setting`` is None where the accounts name no market.
    """
    return records(connection, _MARKETS, otherwise=DEFAULT_MARKET)


_CHOSEN = """
COALESCE(
  {setting},
  (SELECT i.market FROM marketdata.instruments_v1 i JOIN marketdata.markets_v1 k ON k.code = i.market
   WHERE i.tradable AND i.currency = {currency} AND strpos(i.symbol, '/') = 0
   GROUP BY i.market, k.always_open ORDER BY k.always_open, count(*) DESC, i.market DESC LIMIT 1),
  (SELECT market FROM marketdata.instruments_v1 WHERE tradable
   GROUP BY market ORDER BY count(*) DESC, market LIMIT 1),
  :otherwise)
"""
_OF_ACCOUNT = _CHOSEN.format(setting="(SELECT market FROM account)", currency="(SELECT currency FROM account)")
_ACCOUNT_MARKET = text(f"""
WITH account AS (SELECT currency, settings ->> 'market' AS market FROM orders.accounts_v1 WHERE id = :account_id),
chosen AS (SELECT {_OF_ACCOUNT} AS market)
SELECT m.code, m.timezone, m.always_open FROM marketdata.markets_v1 m JOIN chosen ON chosen.market = m.code
""")
_MARKETS = text(f"""
SELECT a.currency, a.setting, m.code, m.timezone, m.always_open
FROM (SELECT DISTINCT currency, settings ->> 'market' AS setting FROM orders.accounts_v1) a
CROSS JOIN LATERAL (SELECT {_CHOSEN.format(setting="a.setting", currency="a.currency")} AS market) chosen
JOIN marketdata.markets_v1 m ON m.code = chosen.market
ORDER BY a.currency, a.setting
""")
