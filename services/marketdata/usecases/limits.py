"""The limits of a provider's key, which all replicas share: requests in a period, and a budget of the day.

The budget is spread over the day. A burst of a twentieth of it may come at once, and the rest one by one. No 24 hours
have more than the budget, whenever they begin.
"""

from datetime import datetime, timedelta

from services.marketdata.providers.provider import Provider
from shared.bus.unit_of_work import ServiceContext
from shared.resilience.rate_limits import NO_WAIT, Rate, RateLimit, RateLimited

DAY = timedelta(days=1)
#: That of a provider which names none. Its refusals are obeyed all the same.
ANY_RATE = Rate(600, timedelta(minutes=1))
_BURST_OF_BUDGET = 20


class Limits:
    """The limits of one provider. They are named by it, and by its key where it has one."""

    def __init__(self, context: ServiceContext, provider: Provider) -> None:
        traits = provider.traits
        key = f":{provider.key_name}" if provider.key_name else ""
        rate = traits.rate or ANY_RATE
        name = f"provider:{traits.name}{key}"
        self._rate = RateLimit(context, name, allowed=rate.allowed, period=rate.period)
        self._day: RateLimit | None = None
        if traits.daily is not None:
            burst = spread(traits.daily)
            self._day = RateLimit(context, f"{name}:day", allowed=burst.allowed, period=burst.period)

    def take(self, wait: timedelta) -> None:
        """Take a call of both limits, and wait for its turn. Raises RateLimited, and then neither is taken.

        A spent budget is not waited for.
        """
        if self._day is not None:
            self._day.take(wait=NO_WAIT)
        try:
            self._rate.take(wait=wait)
        except RateLimited:
            if self._day is not None:
                self._day.give_back()
            raise

    def hold(self, until: datetime) -> None:
        """Allow no call before that time."""
        self._rate.hold(until)


def spread(budget: int) -> Rate:
    """The rate that spreads a budget over the day: a burst, and the rest in equal steps.

    A budget of 25 is one call at once and 24 more in 24 hours.
    """
    burst = max(1, budget // _BURST_OF_BUDGET)
    steps = max(1, budget - burst)
    return Rate(burst, DAY * burst / steps)
