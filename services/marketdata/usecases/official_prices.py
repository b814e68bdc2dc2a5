"""Store and publish official opens and closes: each once, and the first that is known stays.

They come with a provider's quotes, from the first and last trades of a trading day, or from an operator. No official
price is stored for the time of a halt, because a halted instrument has no auction.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.marketdata.domain.official import SETTLES, Bar, Official, first_trade, just_over
from services.marketdata.domain.quote import Quote
from services.marketdata.persistence.official_prices import add_official_prices, last_trades, unknown_closes
from services.marketdata.persistence.prices import Update
from services.marketdata.persistence.sessions import trading_days
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.markets import MARKETS
from shared.contracts.official_prices import EnterOfficialPrice

#: The provider of an official price that an operator entered.
BY_HAND = "hand"
#: A price ends a day that closed at most so long ago: over weekends and holidays.
LOOK_BACK = timedelta(days=14)
#: Closes without a later price are looked for during this time after they have settled.
LOOKED_FOR = timedelta(hours=1)


def enter(uow: UnitOfWork, command: EnterOfficialPrice) -> int:
    return record(uow, [Official(**command.model_dump(), provider=BY_HAND)])


def record(uow: UnitOfWork, found: Sequence[Official]) -> int:
    """Store and publish those of auctions that had no official price yet, and return their number."""
    if not found:
        return 0
    added = add_official_prices(uow.connection, found, uow.now)
    for official in added:
        uow.publish(official)
    return len(added)


def record_trades(uow: UnitOfWork, quotes: Sequence[Quote], updates: Mapping[str, Update]) -> int:
    """Record the opens and closes that these new prices tell, for a provider that does not, and return their number."""
    markets = {
        update.market
        for update in updates.values()
        if update.market not in MARKETS or not MARKETS[update.market].always_open
    }
    if not markets:
        return 0
    days = trading_days(uow.connection, sorted(markets), uow.now - LOOK_BACK, uow.now)
    opens, ended = [], []
    for quote in quotes:
        update = updates[quote.symbol]
        if update.since is None:
            continue
        bar = Bar(quote.symbol, quote.open, quote.volume, update.since, quote.quoted_at, quote.provider)
        its_days = days.get(update.market, [])
        if (first := first_trade(bar, its_days)) is not None:
            opens.append(first)
        if (day := just_over(bar, its_days)) is not None:
            ended.append((quote.symbol, day))
    return record(uow, [*opens, *last_trades(uow.connection, ended)])


def record_closes(uow: UnitOfWork) -> int:
    """Record the closes of days that ended without a later price, and return their number."""
    settled = uow.now - SETTLES
    closes = unknown_closes(uow.connection, settled - LOOKED_FOR, settled)
    return record(uow, last_trades(uow.connection, closes))
