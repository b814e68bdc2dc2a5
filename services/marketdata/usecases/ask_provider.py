"""Ask a network provider something: through its breaker, and only as often as its limits allow.

Every call to a provider goes through here, outside of any transaction. All replicas share the breaker and the limit.
"""

from collections.abc import Callable
from typing import TypeVar

from services.marketdata.providers.provider import KeyRefused, Provider, Throttled, Unsupported
from shared.bus.unit_of_work import ServiceContext
from shared.resilience.breakers import Breaker, is_failure
from shared.resilience.rate_limits import RateLimit

Answer = TypeVar("Answer")
#: The provider answered, and would answer others: the call or the key is at fault.
_OUR_FAULT = (KeyRefused, Throttled, Unsupported)


def ask(context: ServiceContext, provider: Provider, call: Callable[[], Answer]) -> Answer:
    """Return the call's answer.

    Raises BreakerOpen while the provider keeps failing, RateLimited while its rate allows no call, and ProviderError
    where this call failed.
    """
    name, rate = f"provider:{provider.traits.name}", provider.traits.rate
    with Breaker(context, name, counts=is_outage):
        if rate is not None:
            RateLimit(context, name, allowed=rate.allowed, period=rate.period).take()
        return call()


def is_outage(error: BaseException) -> bool:
    """Tell whether the error shows that the provider is down."""
    return is_failure(error) and not isinstance(error, _OUR_FAULT)
