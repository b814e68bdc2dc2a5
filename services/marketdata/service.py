"""Assembly of the marketdata service."""

from collections.abc import Sequence

from services.marketdata.actors import actors
from services.marketdata.configured import configured_order, configured_provider
from services.marketdata.feed import Feed
from services.marketdata.history_jobs import declare_history
from services.marketdata.instrument_sets import read_set
from services.marketdata.jobs import jobs
from services.marketdata.persistence.instruments import add_instruments, instrument_of
from services.marketdata.persistence.partitions import ensure_partitions
from services.marketdata.persistence.sessions import add_markets
from services.marketdata.price_stream import make_streams
from services.marketdata.settings import INSTRUMENTS_FILE, current
from services.marketdata.warm_up import WarmUp
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS
from shared.service import Service

#: The instruments of the recorded prices. They trade on the demo market, so that the demo works on a Sunday.
INSTRUMENTS = tuple(instrument_of(terms) for terms in read_set(INSTRUMENTS_FILE, "demo"))


def prepare(context: ServiceContext) -> None:
    """Add the markets, the configured sets of instruments, the next partitions and the providers of history.

    Raises UnreadableSet.
    """
    settings = current()
    sets = [read_set(settings.instruments_file, name) for name in settings.instrument_sets()]
    with context.engine.begin() as connection:
        add_markets(connection, MARKETS.values())
        add_instruments(connection, [instrument_of(terms) for each in sets for terms in each])
        ensure_partitions(connection, context.clock())
        declare_history(connection)


def components(context: ServiceContext) -> Sequence[Background]:
    provider, speed = configured_provider(), current().replay_speed
    feeds = [Feed(context, provider, speed=speed)] if provider is not None and speed else []
    order = configured_order()
    asked = {each.traits.name: each for providers in order.values() for each in providers}
    warm_up = [WarmUp(asked.values())] if asked else []
    return [*warm_up, *feeds, *(make_streams(context, order) if current().stream else [])]


service = Service("marketdata", actors, jobs, prepare, components, check_settings=current)
