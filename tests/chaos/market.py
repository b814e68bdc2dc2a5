"""A market of the fleet that has a trading day for each fault run, and holds its auctions when the run wants it to.

They are due in an hour, so that orders may come for them at any time before; those that come after are too late.
"""

from datetime import date, timedelta
from decimal import Decimal

from services.marketdata.domain.official import Official
from services.marketdata.domain.sessions import Session
from services.marketdata.persistence import sessions
from services.marketdata.usecases import official_prices
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.markets import KnownMarket
from shared.contracts.official_prices import AuctionKind
from shared.storage.engine import make_engine
from tests.chaos.fleet import Fleet
from tests.chaos.tickets import AUCTIONED

MARKET = KnownMarket("FAULTS", "Market of the fault runs", "UTC")
EVER = (date(2000, 1, 1), date(2100, 1, 1))
PRICE = Decimal(250)


def open_day(fleet: Fleet, seed: int) -> date:
    """Open a trading day that no other fault run has."""
    now = utc_now()
    day = now.date() + timedelta(days=seed)
    open_at, close_at = now + timedelta(hours=1), now + timedelta(hours=2)
    session = Session(MARKET.code, day, "regular", open_at, close_at, early_close=False)
    engine = make_engine(fleet.urls["marketdata"], name="marketdata")
    with engine.begin() as connection:
        sessions.add_markets(connection, [MARKET])
        sessions.replace_sessions(connection, [MARKET.code], *EVER, [session])
        moved = "UPDATE marketdata.instruments SET market = %s WHERE symbol = %s"
        connection.exec_driver_sql(moved, (MARKET.code, AUCTIONED))
    engine.dispose()
    return day


def hold_auctions(fleet: Fleet, day: date) -> None:
    engine = make_engine(fleet.urls["marketdata"], name="marketdata")
    with ServiceContext("marketdata", engine).unit_of_work() as uow:
        held = [Official(AUCTIONED, kind, day, PRICE, uow.now, "test") for kind in AuctionKind]
        official_prices.record(uow, held)
    engine.dispose()
