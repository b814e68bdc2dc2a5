"""The messages of dramatiq that a service logs, those that it leaves out, and the level of each destination."""

import json
import subprocess
import sys

from shared.observability.log_record import MESSAGE

SAYS = """
import logging
from sqlalchemy.exc import OperationalError
from shared.observability.logs import configure_logs
from shared.settings import ServiceSettings
from shared.storage.engine import make_engine

configure_logs(ServiceSettings(log_format="json"))
consumer = logging.getLogger("dramatiq.worker.ConsumerThread")
consumer.critical("Consumer encountered a connection error: %s", "refused")
consumer.info("Restarting consumer in %0.2f seconds.", 3.0)
consumer.warning("something else")
make_engine("postgresql+psycopg://127.0.0.1/nothing", name="orders").pool.logger.info("Pool recreating")
away = OperationalError("SELECT 1", {}, ConnectionError("closed"), connection_invalidated=True)
for error in (away, ValueError("this is why")):
    try:
        raise error
    except Exception:
        logging.getLogger("dramatiq.worker").exception("Failed to process message %s with unhandled exception.", "x")
        logging.getLogger("ours").exception("failed %s", 4_000_000 * "long")
"""

#: Prints on stdout what comes to another handler than the terminal's, which writes to stderr.
LEVELS = """
import logging, sys
import structlog
from shared.observability.log_record import line_of
from shared.observability.logs import configure_logs
from shared.settings import ServiceSettings

class Other(logging.Handler):
    def emit(self, record):
        print(line_of(record, "orders").message)

configure_logs(ServiceSettings(log_format="json", log_level=sys.argv[1]))
logging.getLogger().addHandler(Other())
ours, library = structlog.get_logger("ours"), logging.getLogger("library")
for log in (ours, library):
    log.info("info")
    with structlog.contextvars.bound_contextvars(run_id="1"):
        log.debug("debug in a run")
        log.info("info in a run")
    log.warning("warning")
ours.bind(run_id="1").info("bound to a run")
"""


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)


def test_an_outage_is_logged_once_and_no_line_is_long() -> None:
    """Neither each attempt of a consumer, nor each try of a message with its body, which our own middleware logs."""
    other, away, failure = map(json.loads, run(SAYS).stderr.splitlines())
    assert (other["event"], other["level"]) == ("something else", "warning")
    assert away["exception"].splitlines()[-1] == "sqlalchemy.exc.OperationalError: (builtins.ConnectionError) closed"
    assert "SELECT 1" not in away["exception"]
    assert failure["event"].startswith("failed long")
    assert len(failure["event"]) == MESSAGE
    assert failure["exception"].splitlines()[-1] == "ValueError: this is why"


def test_lines_of_a_run_are_made_though_the_terminal_does_not_show_them() -> None:
    """The level in the settings is the terminal's. Other events of our own code below it are dropped."""
    said = run(LEVELS, "WARNING")
    assert [json.loads(shown)["event"] for shown in said.stderr.splitlines()] == ["warning", "warning"]
    ours = ["info in a run", "warning"]
    library = ["info", "info in a run", "warning"]
    assert said.stdout.splitlines() == [*ours, *library, "bound to a run"]


def test_a_terminal_shows_all_from_its_level_on() -> None:
    """The system log does not change it."""
    shown = [json.loads(line)["event"] for line in run(LEVELS, "DEBUG").stderr.splitlines()]
    each = ["info", "debug in a run", "info in a run", "warning"]
    assert shown == [*each, *each, "bound to a run"]
