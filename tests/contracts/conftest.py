from collections.abc import Iterator

import pytest

from shared.bus.unit_of_work import ServiceContext
from shared.storage.engine import make_engine
from tests.contracts.buses import Bus, InProcessBus, RabbitBus
from tests.servers.rabbitmq import RabbitServer


@pytest.fixture(params=["in-process", "rabbitmq", "rabbitmq, replicated"])
def bus(request: pytest.FixtureRequest, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    monkeypatch.setattr("shared.bus.retries.FIRST_PAUSE_SECONDS", 0.02)
    contexts = {name: ServiceContext(name, make_engine(url, name=name)) for name, url in urls.items()}
    if request.param == "in-process":
        made: Bus = InProcessBus(contexts)
    else:
        server: RabbitServer = request.getfixturevalue("rabbit")
        made = RabbitBus(contexts, url=server.new_bus(replicated="replicated" in request.param))
    yield made
    made.stop()
    if isinstance(made, RabbitBus):
        server.delete_vhost(made.url)
    for context in contexts.values():
        context.engine.dispose()
