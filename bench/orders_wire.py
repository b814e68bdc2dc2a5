"""Orders over RabbitMQ, with the service as deployed in processes of its own."""

from collections.abc import Callable, Sequence
from functools import partial

from bench import wire_fills, wire_memory, wire_submits
from bench.bus_servers import Servers, quiet_logs, running_servers
from bench.report import Row

Measure = Callable[[Servers], Sequence[Row]]


def measure(*, quick: bool) -> Sequence[Row]:
    """Each on servers of its own: what one leaves behind is not in the way of the next."""
    quiet_logs()
    runs, seconds = (1, 3) if quick else (5, 10)
    parts: list[Measure] = [
        partial(wire_fills.measure, runs=runs, seconds=seconds),
        partial(
            wire_submits.measure,
            runs=1 if quick else 3,
            seconds=3 if quick else 5,
            alone=100 if quick else 500,
            commands=5 if quick else 20,
        ),
        partial(wire_memory.measure, runs=runs, batches=20, many=(10**5,) if quick else (10**5, 10**6)),
    ]
    rows: list[Row] = []
    for part in parts:
        with running_servers() as servers:
            rows += part(servers)
    return rows
