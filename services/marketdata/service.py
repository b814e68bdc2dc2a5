"""What marketdata is made of."""

from collections.abc import Sequence

from services.marketdata import partitions, store
from services.marketdata.actors import actors
from services.marketdata.feed import Feed
from services.marketdata.jobs import configured_provider, jobs
from services.marketdata.settings import current
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS
from shared.service import Service

#: What the recorded prices hold. They trade on the demo market, so that it works on a Sunday.
INSTRUMENTS = (
    store.Instrument("AAPL", "Apple Inc."),
    store.Instrument("FB", "Facebook, Inc."),
    store.Instrument("GOOG", "Google Inc."),
    store.Instrument("IBM", "International Business Machines Corporation"),
    store.Instrument("MSFT", "Microsoft Corporation"),
)


def prepare(context: ServiceContext) -> None:
    with context.engine.begin() as connection:
        store.add_markets(connection, MARKETS.values())
        store.add_instruments(connection, INSTRUMENTS)
        partitions.ensure_partitions(connection, context.clock())


def components(context: ServiceContext) -> Sequence[Background]:
    speed = current().replay_speed
    return [Feed(context, configured_provider(), speed=speed)] if speed else []


service = Service("marketdata", actors, jobs, prepare, components, check_settings=current)
