"""The hub of one gateway process: the requests that an event answers, and the parts of which page it changes."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.gateway.streams.events import ANSWERS, CHANGES, HALTS, Part
from services.gateway.streams.hub import Answer, Hub, answers_within
from shared.contracts.accounts import CashRefused, OfAccount
from shared.contracts.base import Message
from shared.contracts.instruments import InstrumentsRefused
from shared.contracts.orders import CancelRejected, OrderFilled, OrderRejected, ReplaceRejected
from shared.contracts.prices import PricesUpdated
from shared.contracts.rebalancing import RebalanceRefused
from shared.contracts.routing import LIVE
from shared.contracts.strategy import StrategyRefused

OURS = [message for message in LIVE if issubclass(message, OfAccount)]
REJECTIONS = {
    OrderRejected,
    CancelRejected,
    ReplaceRejected,
    CashRefused,
    InstrumentsRefused,
    StrategyRefused,
    RebalanceRefused,
}

every_answer = pytest.mark.parametrize("message", ANSWERS, ids=lambda message: message.__name__)


async def all_delivered() -> None:
    """Wait until the loop has handled everything that the bus's thread handed to it so far."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done


def test_every_event_of_an_account_is_known() -> None:
    """Each one changes a page or rejects a request. A request waits for the id in a field of the answer."""
    assert CHANGES.keys() | (REJECTIONS & set(OURS)) == set(OURS)
    assert [message for message, field in ANSWERS.items() if field not in message.model_fields] == []


@pytest.mark.parametrize("message", OURS, ids=lambda message: message.__name__)
def test_an_event_changes_only_the_page_of_its_own_account(message: type[Message]) -> None:
    """It changes the parts that the table names. A rejection of a cancel, a replacement or a transfer changes none."""

    async def changed() -> tuple[set[Part], set[Part]]:
        hub, account_id = Hub(), uuid4()
        hub.attach(asyncio.get_running_loop())
        with hub.stream(account_id) as own, hub.stream(uuid4()) as other:
            hub.receive(message.wire_name(), _body(account_id=account_id))
            await all_delivered()
            return own.take()[0], other.take()[0]

    assert asyncio.run(changed()) == (set(CHANGES.get(message, ())), set())


@pytest.mark.parametrize("message", sorted(HALTS, key=str), ids=lambda message: message.__name__)
def test_a_halt_changes_every_page(message: type[Message]) -> None:
    """It does so for every account."""

    async def changed() -> list[set[Part]]:
        hub = Hub()
        hub.attach(asyncio.get_running_loop())
        with hub.stream(uuid4()) as one, hub.stream(uuid4()) as other:
            hub.receive(message.wire_name(), _body(symbol="AAPL"))
            await all_delivered()
            return [one.take()[0], other.take()[0]]

    assert asyncio.run(changed()) == [{Part.HALTS}, {Part.HALTS}]


@every_answer
def test_a_request_gets_the_first_answer_about_its_own_id(message: type[Message]) -> None:
    """A later answer does not count, and neither does that of another account. A rejection is known by its class."""

    async def answers() -> list[Answer | None]:
        hub, awaited = Hub(), uuid4()
        account_id = uuid4() if issubclass(message, OfAccount) else None
        whose = {} if account_id is None else {"account_id": account_id}
        hub.attach(asyncio.get_running_loop())
        with (
            hub.waiting_for(account_id, awaited) as own,
            hub.waiting_for(account_id, uuid4()) as other,
            hub.waiting_for(uuid4(), awaited) as strange,
        ):
            hub.receive(message.wire_name(), _body(**whose, **{ANSWERS[message]: awaited}))
            hub.receive(message.wire_name(), _body(**whose, **{ANSWERS[message]: awaited}, later=True))
            return [*await answers_within(5, [own]), *await answers_within(0, [other, strange])]

    answer, *nothing = asyncio.run(answers())
    assert nothing == [None, None]
    assert answer is not None
    assert (answer.message, "later" in answer.body) == (message, False)
    assert answer.refused == (message in REJECTIONS)


@pytest.mark.parametrize("wire_name", ["OrderFilled.v2", "SubmitOrder.v1", "NoSuchEvent.v1", "OrderFilled"])
def test_an_unknown_event_is_ignored(wire_name: str) -> None:
    """A newer service may publish it. The next event is still delivered."""

    async def changed() -> set[Part]:
        hub, account_id = Hub(), uuid4()
        hub.attach(asyncio.get_running_loop())
        with hub.stream(account_id) as stream:
            hub.receive(wire_name, _body(account_id=account_id))
            await all_delivered()
            assert not stream.news.is_set()
            hub.receive(OrderFilled.wire_name(), _body(account_id=account_id))
            await all_delivered()
            return stream.take()[0]

    assert asyncio.run(changed()) == CHANGES[OrderFilled]


def test_a_stream_keeps_the_newest_price_of_each_symbol() -> None:
    """A slow reader gets no backlog."""

    async def taken() -> list[dict[str, Any]]:
        hub = Hub()
        hub.attach(asyncio.get_running_loop())
        with hub.stream(uuid4()) as stream:
            for last in ("100", "101"):
                prices = [{"symbol": symbol, "last": last} for symbol in ("AAPL", "MSFT")]
                hub.receive(PricesUpdated.wire_name(), {"prices": prices})
            await all_delivered()
            await stream.wait(5)
            prices = stream.take()[1]
            assert stream.take() == (set(), [])
            return prices

    assert asyncio.run(taken()) == [{"symbol": "AAPL", "last": "101"}, {"symbol": "MSFT", "last": "101"}]


def _body(**given: Any) -> dict[str, Any]:
    """A body for any event. Each id belongs to something else unless it is given."""
    ids = {field: uuid4() for field in {"account_id", *ANSWERS.values()}}
    whole = {**ids, "reason": "why", "message": "Because.", **given}
    if "account_id" not in given and given.keys() & {"halt_id", "push_id", "request_id", "change_id"}:  # of no account
        del whole["account_id"]
    return {name: str(each) if isinstance(each, UUID) else each for name, each in whole.items()}
