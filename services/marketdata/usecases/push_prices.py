"""Take the prices that a user's own feed pushes: each by itself, all in one transaction."""

from decimal import Decimal

from services.marketdata.domain.price_checks import MOST_JUMP, PriceFault, Refusal
from services.marketdata.domain.quote import Quote
from services.marketdata.persistence.instruments import lock_known
from services.marketdata.providers.push import quote_of
from services.marketdata.usecases.corporate_actions import apply_due
from services.marketdata.usecases.update_prices import store
from shared.bus.metrics import REFUSED_PRICES
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.prices import MOST_OF_A_SYMBOL, PricesPushed, PushPrices, RefusedPrice, TakenPrice


def push_prices(uow: UnitOfWork, command: PushPrices, *, most_jump: Decimal = MOST_JUMP) -> None:
    """Store and publish the prices that pass the checks, and answer with those that were taken and refused."""
    apply_due(uow)
    known = lock_known(uow.connection, sorted({price.symbol for price in command.pushed}), uow.now)
    quotes: dict[int, Quote] = {}
    refusals: dict[int, Refusal] = {}
    counts: dict[str, int] = {}
    for price in command.pushed:
        counts[price.symbol] = counts.get(price.symbol, 0) + 1
        read = _TOO_MANY if counts[price.symbol] > MOST_OF_A_SYMBOL else quote_of(price, command.received_at)
        if isinstance(read, Refusal):
            refusals[price.index] = read
            REFUSED_PRICES.labels("push", read.fault.value).inc()
        else:
            quotes[price.index] = read
    taken = []
    for index, result in zip(quotes, store(uow, list(quotes.values()), known, most_jump=most_jump), strict=True):
        if isinstance(result, Refusal):
            refusals[index] = result
        else:
            taken.append(TakenPrice(index=index, symbol=quotes[index].symbol, sequence=result.sequence))
    symbols = {price.index: price.symbol for price in command.pushed}
    refused = [
        RefusedPrice(index=index, symbol=symbols[index], reason=each.fault.value, message=each.message)
        for index, each in sorted(refusals.items())
    ]
    uow.publish(PricesPushed(push_id=command.push_id, taken=tuple(taken), refused=tuple(refused)))


_TOO_MANY = Refusal(
    PriceFault.TOO_MANY, f"a request takes {MOST_OF_A_SYMBOL} prices of a symbol; send the others in the next one"
)
