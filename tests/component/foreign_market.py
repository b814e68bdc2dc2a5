"""A market abroad for tests: instruments in euros and yen, and the pairs that say what these are worth."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from services.marketdata.persistence.instruments import Instrument, add_instruments
from tests.component.paper_exchange import Exchange
from tests.support import rows

#: A rate is stale after that.
STALE = timedelta(seconds=121)

ABROAD = (
    Instrument("SAP", "SAP", currency="EUR"),
    Instrument("SONY", "Sony", currency="JPY"),
    Instrument("EUR/USD", "Euro", currency="USD"),
    Instrument("USD/JPY", "Dollar", currency="JPY"),
)


def open_market(exchange: Exchange) -> Exchange:
    """SAP trades in euros, Sony in yen. A euro is bought at 1.11 and sold at 1.09. The yen has no rate yet."""
    with exchange.marketdata.engine.begin() as connection:
        add_instruments(connection, ABROAD)
    exchange.price("EUR/USD 1.09/1.11 1.10")
    return exchange


def bought(abroad: Exchange, account: UUID, text: str = "buy 10 SAP market", last: str = "100") -> UUID:
    """The order, filled at this price."""
    placed = abroad.submit(account, text)
    abroad.price(f"{text.split()[2]} {last}/{last} {last}")
    assert abroad.status(placed) == "filled"
    return placed


def fill_of(abroad: Exchange, order_id: UUID) -> Any:
    (row,) = rows(abroad.orders.engine, "SELECT * FROM orders.fills WHERE order_id = :id", id=order_id)
    return row


def cash(abroad: Exchange, account: UUID) -> Any:
    return abroad.account(account).cash


def forget(abroad: Exchange, pair: str) -> None:
    """As if the pair had never had a price."""
    with abroad.marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET last_price = NULL WHERE symbol = %s", (pair,))
