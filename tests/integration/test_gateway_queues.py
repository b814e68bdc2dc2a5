"""The gateway reads queue statistics from RabbitMQ, with nothing but its settings."""

from pydantic import SecretStr

from services.gateway.service import queue_reader
from services.gateway.settings import Settings
from shared.clock import utc_now
from shared.contracts.routing import QUEUES
from tests.servers.rabbitmq import RabbitServer


def test_the_gateway_reads_the_queues_of_its_own_virtual_host(vhost: str, rabbit: RabbitServer) -> None:
    """It reads those of its own connection's virtual host. Without a management API it reads none."""
    settings = Settings(rabbitmq_url=SecretStr(vhost), rabbitmq_management_url=SecretStr(rabbit.management_url))
    read = queue_reader(settings, utc_now)
    assert read is not None
    assert set(QUEUES) <= {figures.queue for figures in read()}
    assert queue_reader(Settings(), utc_now) is None
