"""Fetch the corporate actions of held and listed shares from the providers, one symbol after the other.

The first time the whole history of a symbol is fetched, by which earlier bars are adjusted. A symbol that a run did not
come to, or that failed, comes first in the next one.
"""

from collections import Counter
from datetime import date, timedelta
from functools import partial

import structlog

from services.marketdata.persistence import actions
from services.marketdata.persistence.actions import Asked
from services.marketdata.providers.provider import KeyRefused, Listed, Part, Provider, ProviderError, Throttled
from services.marketdata.usecases.ask_provider import ask
from services.marketdata.usecases.fetch_prices import Order
from services.marketdata.usecases.save_actions import save_actions
from shared.contracts.instruments import AssetClass
from shared.jobs.run_context import Counts, RunContext
from shared.outage import first_line
from shared.resilience.breakers import BreakerOpen
from shared.resilience.rate_limits import RateLimited

log = structlog.get_logger(__name__)

#: A retried run asks no symbol again that was asked in this time.
ASKED_LATELY = timedelta(hours=6)
#: The ex-dates that are asked for: all the first time, then those of the last weeks, for corrections, and of the next.
LONG_AGO = date(1990, 1, 1)
BACK, AHEAD = timedelta(days=30), timedelta(days=90)
#: The provider would answer for no other symbol either, for the moment.
_RESTS = (BreakerOpen, RateLimited, KeyRefused, Throttled)


def fetch_actions(run: RunContext, order: Order) -> Counts:
    """Fetch and save the actions, and return how many were stored, updated, withdrawn or reported.

    Raises the last error if no provider answered for any symbol, or if the rest has to wait. The run is then retried.
    """
    counts: Counter[str] = Counter()
    with run.context.unit_of_work() as uow:
        waiting = actions.to_ask(uow.connection, run.now - ASKED_LATELY) if order else []
    today, answered = run.now.date(), 0
    resting: dict[str, Exception] = {}
    failure: Exception | None = None
    for done, asked in enumerate(waiting, start=1):
        providers = [each for each in _having(order, asked) if each.traits.name not in resting]
        begin = LONG_AGO if asked.fetched_at is None else min(asked.fetched_at.date(), today) - BACK
        listed = Listed(asked.symbol, asked.market, AssetClass(asked.asset_class), asked.currency)
        for provider in providers:
            name = provider.traits.name
            try:
                found = ask(run.context, provider, partial(provider.actions, listed, begin, today + AHEAD))
            except (ProviderError, *_RESTS) as error:
                failure = error
                log.warning("provider has no actions now", provider=name, symbol=asked.symbol, error=first_line(error))
                if isinstance(error, _RESTS):
                    resting[name] = error
                continue
            with run.context.unit_of_work() as uow:
                counts += save_actions(uow, listed, name, found, begin, today + AHEAD)
            answered += 1
            break
        run.progress(done, len(waiting))
    if failure is not None and (not answered or (resting and answered < len(waiting))):
        raise next(iter(resting.values()), failure)
    return dict(counts)


def _having(order: Order, asked: Asked) -> list[Provider]:
    """The providers that have actions of these shares, in their order."""
    asset_class = AssetClass(asked.asset_class)
    return [
        each
        for each in order.get(asset_class, ())
        if Part.ACTIONS in each.traits.parts and asset_class in each.traits.asset_classes
    ]
