"""Deaths of a worker of orders at a named point of its work on a command, made from outside: no service has a hook.

A file of the point's name asks for one. The first worker that comes there takes the file, and is dead by SIGKILL.
"""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dramatiq.middleware import CurrentMessage

from shared.bus.amqp.broker import ServiceConsumer
from shared.storage import driver

#: The transaction is done but for its commit; it is committed, and no relay knows yet; the handler is done.
POINTS = ("before commit", "after commit", "before ack")
FOLDER = "PAPERPROFIT_CHAOS_DEATHS"
#: Python runs this at the start of every process of the fleet; the one that it is for is told by its folder.
INJECTED = """
import os

if os.path.basename(os.environ.get("PAPERPROFIT_RUN_DIR", "")).startswith("paperprofit-orders-"):
    from tests.chaos.deaths import install

    install()
"""


class Dead(NamedTuple):
    pid: int
    message_id: str


def ask_for(folder: Path, point: str) -> None:
    (folder / point).touch()


def died(folder: Path, point: str) -> list[Dead]:
    """The workers that died at the point, each with the command that it held."""
    taken = list(folder.glob(f"{point},*"))
    for each in taken:
        each.unlink()
    return [Dead(int(pid), message_id) for _, pid, message_id in (each.name.split(",") for each in taken)]


def install() -> None:
    """Make this process one that dies when it is asked for."""
    run, ack = driver.run_prepared, ServiceConsumer.ack

    def run_mortally(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
        commits = any(statement == "COMMIT" for statement, _ in calls)
        if commits:
            _die_if_asked("before commit", CurrentMessage.get_current_message())
        answered = run(used, prepared, calls)
        if commits:
            _die_if_asked("after commit", CurrentMessage.get_current_message())
        return answered

    def ack_mortally(consumer: ServiceConsumer, message: Any) -> None:
        _die_if_asked("before ack", message)
        ack(consumer, message)

    driver.run_prepared = run_mortally
    ServiceConsumer.ack = ack_mortally  # type: ignore[method-assign,assignment]


def _die_if_asked(point: str, message: Any) -> None:
    if message is None or message.queue_name != "orders.commands":
        return
    asked = Path(os.environ[FOLDER], point)
    with suppress(FileNotFoundError):
        asked.rename(asked.with_name(f"{point},{os.getpid()},{message.message_id}"))
        os.kill(os.getpid(), signal.SIGKILL)
