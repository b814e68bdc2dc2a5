"""The time of a command to its handler's start, with and without a backlog of less urgent messages."""

from contextlib import ExitStack

from bench.bus_consume import Consuming, handled_by
from bench.bus_latency import WARM_UP_SECONDS, Latency, percentiles, publish_steadily, publisher_of, wait_until_attached
from bench.bus_servers import LOW_ELSEWHERE, LOW_OF_OURS, OURS, Servers, cancel, run_job
from bench.report import NotMeasured
from shared.bus.envelope import encode
from shared.settings import ServiceSettings

PER_SECOND = 50
PREFETCH: int = ServiceSettings.model_fields["prefetch"].default


def command_latency(servers: Servers, seconds: int, *, backlog: int = 0, elsewhere: bool = False) -> Latency:
    """The latency of commands at a steady rate, with the worker pools of orders as deployed.

    The backlog waits in orders' own queue of jobs, or ``elsewhere``, in another service's, whose process drains it.
    """
    servers.purge(OURS)
    for queue, count in ((LOW_OF_OURS, 0 if elsewhere else backlog), (LOW_ELSEWHERE, backlog if elsewhere else 0)):
        servers.fill(queue, (run_job(queue) for _ in range(count)))
    count = (WARM_UP_SECONDS + seconds) * PER_SECOND
    with ExitStack() as stack:
        publisher = stack.enter_context(publisher_of(servers))
        ours = stack.enter_context(Consuming(servers, "ours-pools", threads=8, prefetch=PREFETCH).running(1))
        if elsewhere:
            stack.enter_context(Consuming(servers, "low", threads=8, prefetch=PREFETCH).running(1))
        wait_until_attached(servers, OURS)
        sent = publish_steadily(lambda n: publisher.send(encode(cancel(n))), count, PER_SECOND)
        left = servers.rabbit.queues(servers.url)[LOW_ELSEWHERE if elsewhere else LOW_OF_OURS].ready
        if backlog and not left:
            raise NotMeasured(f"the backlog of {backlog} was gone before the last command")
        servers.wait_until_empty(OURS)
        begun = {number: at for at, number in handled_by(ours)}
    if len(begun) != count:
        raise NotMeasured(f"{len(begun)} of {count} commands were handled")
    return percentiles([1000 * (begun[n] - sent[n]) for n in range(WARM_UP_SECONDS * PER_SECOND, count)])
