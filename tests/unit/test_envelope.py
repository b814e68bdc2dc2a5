"""The envelope is dramatiq's JSON, addressed by the routing table and limited in size."""

from uuid import UUID, uuid4

import dramatiq
import pytest

from shared.bus.envelope import MAX_BODY_BYTES, MessageTooLarge, actor_name, encode, stamped
from shared.contracts.account_risk import AccountHalted, RiskLimitReached
from shared.contracts.base import Command, Message
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.jobs import RunJob
from shared.contracts.official_prices import OfficialPricePublished
from shared.contracts.orders import OrderAccepted, OrderFilled
from shared.contracts.prices import PricesUpdated
from shared.contracts.routing import COMMANDS, EVENTS
from shared.contracts.sessions import SessionsChanged
from tests.unit.message_examples import ACCOUNT, EXAMPLES

every_message = pytest.mark.parametrize("message", EXAMPLES.values(), ids=lambda m: type(m).__name__)


def decoded(message: Message) -> "dramatiq.Message[None]":
    envelope: dramatiq.Message[None] = dramatiq.Message.decode(encode(message).body)
    return envelope


def padded(size: int) -> RunJob:
    """A command with this many bytes of parameters."""
    return RunJob(to="orders", run_id=UUID(int=1), job="process_orders", parameters={"padding": "x" * size})


@every_message
def test_any_dramatiq_worker_can_read_a_message(message: Message) -> None:
    """The actor is the message's name and version, the arguments are the body."""
    envelope = decoded(message)
    assert envelope.actor_name == message.wire_name() == f"{type(message).__name__}.v1"
    assert (envelope.queue_name, envelope.args, set(envelope.options)) == ("", (), {"traceparent"})
    assert type(message).model_validate(envelope.kwargs) == message


@every_message
def test_a_message_is_addressed_by_the_routing_table(message: Message) -> None:
    """Exchange, routing key and the key that orders it come from the contract."""
    outgoing = encode(message)
    assert outgoing.exchange == (COMMANDS if isinstance(message, Command) else EVENTS)
    assert (outgoing.routing_key, outgoing.key) == (message.routing_key, message.key)


def test_a_message_keeps_the_id_it_is_given() -> None:
    """Consumers handle a message once, by its id, however often it is sent."""
    given = uuid4()
    outgoing = encode(EXAMPLES[OrderFilled], message_id=given)
    assert outgoing.message_id == given
    assert dramatiq.Message.decode(outgoing.body).message_id == str(given)


def test_a_message_without_an_id_gets_one_of_its_own() -> None:
    """Two equal orders are two messages."""
    first, second = (encode(EXAMPLES[OrderFilled]) for _ in range(2))
    assert first.message_id != second.message_id
    assert dramatiq.Message.decode(first.body).message_id == str(first.message_id)


@every_message
def test_a_command_must_reach_a_queue(message: Message) -> None:
    """An event that a queue receives must reach it as well. One for the live feed alone may reach nobody."""
    awaited = isinstance(
        message,
        Command
        | PricesUpdated
        | OrderFilled
        | CorporateActionApplied
        | OfficialPricePublished
        | SessionsChanged
        | RiskLimitReached
        | AccountHalted,
    )
    assert encode(message).mandatory == awaited


def test_an_event_for_the_live_feed_alone_may_reach_nobody() -> None:
    """It is no error if no gateway runs."""
    assert not encode(EXAMPLES[OrderAccepted]).mandatory


def test_a_message_of_the_largest_size_is_sent() -> None:
    """The limit itself is allowed, one byte more is not."""
    room = MAX_BODY_BYTES - len(encode(padded(0)).body)
    assert len(encode(padded(room)).body) == MAX_BODY_BYTES
    with pytest.raises(MessageTooLarge, match=rf"RunJob\.v1 has {MAX_BODY_BYTES + 1} bytes, more than the limit"):
        encode(padded(room + 1))


def test_the_size_is_counted_in_bytes() -> None:
    """A character counts by its bytes on the wire."""
    command = RunJob(
        to="orders", run_id=UUID(int=1), job="process_orders", parameters={"padding": "€" * MAX_BODY_BYTES}
    )
    with pytest.raises(MessageTooLarge):
        encode(command)


def test_a_batch_of_five_thousand_prices_fits() -> None:
    """One poll of five thousand symbols is within the limit."""
    batch = EXAMPLES[PricesUpdated]
    assert isinstance(batch, PricesUpdated)
    assert len(encode(PricesUpdated(prices=batch.prices[:1] * 5000)).body) < MAX_BODY_BYTES


def test_the_receiving_queue_names_the_actor() -> None:
    """The publisher knows neither the queue nor the actor."""
    received = stamped(decoded(EXAMPLES[OrderFilled]), "valuation.fills")
    assert received.queue_name == "valuation.fills"
    assert received.actor_name == "valuation.fills/OrderFilled.v1" == actor_name("valuation.fills", "OrderFilled.v1")


def test_stamping_changes_nothing_else() -> None:
    """Id, body and time are those of the message that was sent."""
    sent = decoded(EXAMPLES[OrderFilled])
    received = stamped(sent, "valuation.fills")
    assert received.kwargs == sent.kwargs
    assert (received.message_id, received.message_timestamp) == (sent.message_id, sent.message_timestamp)


def test_stamping_twice_is_stamping_once() -> None:
    """A retry passes through the same queue again."""
    once = stamped(decoded(EXAMPLES[OrderFilled]), "valuation.fills")
    assert stamped(once, "valuation.fills") == once


def test_another_queue_stamps_over_the_first() -> None:
    """A dead letter that is requeued elsewhere finds the actor there."""
    first = stamped(decoded(EXAMPLES[PricesUpdated]), "orders.prices")
    assert stamped(first, "valuation.prices").actor_name == "valuation.prices/PricesUpdated.v1"


def test_a_delayed_message_waits_beside_its_queue_for_the_same_actor() -> None:
    """Dramatiq's delay queue is the queue's name and .DQ, and the way back is another stamp."""
    sent = decoded(EXAMPLES[OrderFilled])
    waiting = stamped(sent, "valuation.fills", delayed=True)
    assert waiting.queue_name == "valuation.fills.DQ"
    assert waiting.actor_name == "valuation.fills/OrderFilled.v1"
    assert stamped(waiting, "valuation.fills") == stamped(sent, "valuation.fills")


def test_messages_of_one_account_share_a_key() -> None:
    """The outbox publishes messages of one key in the order of their commits."""
    assert encode(EXAMPLES[OrderFilled]).key == encode(EXAMPLES[OrderAccepted]).key == str(ACCOUNT)
