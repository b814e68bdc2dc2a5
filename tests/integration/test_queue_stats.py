"""What an operator is told of the queues, by RabbitMQ itself."""

import pytest

from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.management import Management, ManagementRefused
from shared.bus.amqp.queue_stats import QueueFigures, queue_figures
from shared.bus.envelope import encode
from shared.clock import utc_now
from tests.servers.rabbitmq import RabbitServer, vhost_of
from tests.support import eventually, price, prices


def figures(rabbit: RabbitServer, vhost: str) -> dict[str, QueueFigures]:
    found = queue_figures(Management(rabbit.management_url), vhost_of(vhost), utc_now())
    return {each.queue: each for each in found}


def test_depth_rate_and_age_of_what_waits(vhost: str, rabbit: RabbitServer, broker: ServiceBroker) -> None:
    """Ten messages that nobody takes: their number, how fast they came, and how long the first has waited."""
    for number in range(10):
        broker.publisher.send(encode(prices(price("AAPL", number + 1)))).result(10)
    told = eventually(
        lambda: (found := figures(rabbit, vhost)["orders.prices"]).ready == 10 and found.rate_in > 0 and found,
        what="the figures of ten messages",
    )
    assert told
    assert (told.unacknowledged, told.consumers, told.rate_out) == (0, 0, 0)
    assert told.oldest_age is not None
    assert 0 <= told.oldest_age < 60
    assert figures(rabbit, vhost)["valuation.fills"] == QueueFigures("valuation.fills", 0, 0, 0, 0, 0, None)


def test_an_unknown_virtual_host_is_refused(rabbit: RabbitServer) -> None:
    with pytest.raises(ManagementRefused, match="404"):
        queue_figures(Management(rabbit.management_url), "no/such", utc_now())
