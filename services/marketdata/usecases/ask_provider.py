"""Ask a network provider something: through its breaker, and only as often as its limits allow.

Every call to a provider goes through here, outside of any transaction. All replicas share the breaker and the limits.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import structlog

from services.marketdata.providers.provider import KeyRefused, Part, Provider, Throttled, Unsupported
from services.marketdata.usecases.limits import Limits
from shared.bus.unit_of_work import ServiceContext
from shared.resilience.breakers import Breaker, is_failure
from shared.resilience.rate_limits import RateLimited

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
#: A call waits in line for at most this long.
LONGEST_WAIT = timedelta(seconds=30)
#: The pause after a refusal that names no time.
PAUSE_SECONDS = 60.0
#: The provider answered, and would answer others: the call or the key is at fault.
_OUR_FAULT = (KeyRefused, Throttled, Unsupported)


def ask(
    context: ServiceContext,
    provider: Provider,
    call: Callable[[], Answer],
    *,
    wait: timedelta = LONGEST_WAIT,
    part: Part | None = None,
) -> Answer:
    """Return the call's answer, after waiting in line for at most ``wait``.

    A ``part`` that has a server of its own, such as the stream, has a breaker of its own.

    Raises BreakerOpen while the provider keeps failing, RateLimited while its limits or its own refusal allow no call,
    and ProviderError where this call failed. A job that lets the first two pass is run again at the time they name.
    """
    name = f"provider:{provider.traits.name}"
    with Breaker(context, f"{name}:{part}" if part else name, counts=is_outage):
        limits = Limits(context, provider)
        limits.take(wait)
        try:
            return call()
        except Throttled as error:
            seconds = PAUSE_SECONDS if error.retry_after is None else max(1.0, error.retry_after)
            until = context.clock() + timedelta(seconds=seconds)
            limits.hold(until)
            log.warning("provider allows no calls", provider=name, until=until.isoformat(), error=str(error))
            raise RateLimited(name, until) from error


def is_outage(error: BaseException) -> bool:
    """Tell whether the error shows that the provider is down."""
    return is_failure(error) and not isinstance(error, _OUR_FAULT)
