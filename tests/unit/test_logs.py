"""What a service writes to its log of what dramatiq says, and what it leaves out."""

import json
import subprocess
import sys

SAYS = """
import logging
from sqlalchemy.exc import OperationalError
from shared.logs import configure_logs
from shared.settings import ServiceSettings

configure_logs(ServiceSettings(log_format="json"))
consumer = logging.getLogger("dramatiq.worker.ConsumerThread")
consumer.critical("Consumer encountered a connection error: %s", "refused")
consumer.info("Restarting consumer in %0.2f seconds.", 3.0)
consumer.warning("something else")
away = OperationalError("SELECT 1", {}, ConnectionError("closed"), connection_invalidated=True)
for error in (away, ValueError("this is why")):
    try:
        raise error
    except Exception:
        logging.getLogger("dramatiq.worker").exception("Failed to process message %s with unhandled exception.", "x")
"""


def test_a_log_tells_an_outage_once_and_a_failure_in_full() -> None:
    """Not what each consumer says at every attempt, nor a traceback for each message that waits for the database."""
    said = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=True, timeout=30)
    other, failure = map(json.loads, said.stderr.splitlines())
    assert (other["event"], other["level"]) == ("something else", "warning")
    assert failure["event"] == "Failed to process message x with unhandled exception."
    assert "ValueError: this is why" in failure["exception"]
