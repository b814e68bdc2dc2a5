"""Assembly of the marketdata service."""

from collections.abc import Sequence

from services.marketdata.actors import actors
from services.marketdata.feed import Feed
from services.marketdata.history_jobs import declare_history
from services.marketdata.jobs import configured_provider, jobs
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.persistence.partitions import ensure_partitions
from services.marketdata.persistence.sessions import add_markets
from services.marketdata.settings import current
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS
from shared.service import Service

#: The instruments of the recorded prices. They trade on the demo market, so that the demo works on a Sunday.
INSTRUMENTS = (
    Instrument("AAPL", "Apple Inc."),
    Instrument("FB", "Facebook, Inc."),
    Instrument("GOOG", "Google Inc."),
    Instrument("IBM", "International Business Machines Corporation"),
    Instrument("MSFT", "Microsoft Corporation"),
)


def prepare(context: ServiceContext) -> None:
    """Add the known markets, the demo's instruments, the next partitions and the providers of history."""
    with context.engine.begin() as connection:
        add_markets(connection, MARKETS.values())
        add_instruments(connection, INSTRUMENTS)
        ensure_partitions(connection, context.clock())
        declare_history(connection)


def components(context: ServiceContext) -> Sequence[Background]:
    speed = current().replay_speed
    return [Feed(context, configured_provider(), speed=speed)] if speed else []


service = Service("marketdata", actors, jobs, prepare, components, check_settings=current)
