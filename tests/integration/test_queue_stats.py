"""Statistics of the queues, from a real RabbitMQ."""

import pytest

from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.management import Management, ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats, queue_stats
from shared.bus.envelope import encode
from shared.clock import utc_now
from tests.servers.rabbitmq import RabbitServer, vhost_of
from tests.support import eventually, price, prices


def stats(rabbit: RabbitServer, vhost: str) -> dict[str, QueueStats]:
    found = queue_stats(Management(rabbit.management_url), vhost_of(vhost), utc_now())
    return {each.queue: each for each in found}


def test_depth_rate_and_age_of_waiting_messages(vhost: str, rabbit: RabbitServer, broker: ServiceBroker) -> None:
    """Ten messages without a consumer: their number, their rate, and the age of the first."""
    for number in range(10):
        broker.publisher.send(encode(prices(price("AAPL", number + 1)))).result(10)
    waiting = eventually(
        lambda: (found := stats(rabbit, vhost)["orders.prices"]).ready == 10 and found.rate_in > 0 and found,
        what="the stats of ten messages",
    )
    assert waiting
    assert (waiting.unacknowledged, waiting.consumers, waiting.rate_out) == (0, 0, 0)
    assert waiting.oldest_age is not None
    assert 0 <= waiting.oldest_age < 60
    assert stats(rabbit, vhost)["valuation.fills"] == QueueStats("valuation.fills", 0, 0, 0, 0, 0, None)


def test_an_unknown_virtual_host_is_refused(rabbit: RabbitServer) -> None:
    with pytest.raises(ManagementRefused, match="404"):
        queue_stats(Management(rabbit.management_url), "no/such", utc_now())
