"""Orders over RabbitMQ, with the service's real worker as a process of its own."""

from collections.abc import Sequence

from bench import wire_fills
from bench.bus_servers import quiet_logs, running_servers
from bench.report import Row


def measure(*, quick: bool) -> Sequence[Row]:
    quiet_logs()
    with running_servers() as servers:
        return [
            *wire_fills.measure(servers, runs=1 if quick else 5, seconds=3 if quick else 10),
        ]
