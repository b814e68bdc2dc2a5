"""Trace context is continued where it is valid, begun where it is not, and passed on with a new span."""

import pytest
import structlog

from shared.bus import tracing
from shared.bus.envelope import encode
from tests.support import price, prices

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_message_sent_meanwhile_belongs_to_the_same_trace() -> None:
    with tracing.tracing(GIVEN) as used:
        assert used == tracing.current() == GIVEN
        hop = tracing.next_hop()
        assert structlog.contextvars.get_contextvars()["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert tracing.trace_id_of(hop) == tracing.trace_id_of(GIVEN)
    assert hop != GIVEN
    assert tracing.current() is None
    assert "trace_id" not in structlog.contextvars.get_contextvars()


@pytest.mark.parametrize(
    "wrong",
    [None, "", 7, "00-" + "0" * 32 + "-b7ad6b7169203331-01", GIVEN.upper(), GIVEN + "\n", GIVEN[:-1], "x" * 4000],
)
def test_an_invalid_traceparent_begins_a_trace(wrong: object) -> None:
    with tracing.tracing(wrong) as used:
        assert tracing.trace_id_of(used) != tracing.trace_id_of(GIVEN)
        with tracing.tracing(used) as again:
            assert again == used


def test_a_message_without_a_cause_begins_a_trace_of_its_own() -> None:
    assert tracing.trace_id_of(tracing.next_hop()) != tracing.trace_id_of(tracing.next_hop())
    assert b'"traceparent":"00-' in encode(prices(price("AAPL", 1))).body
