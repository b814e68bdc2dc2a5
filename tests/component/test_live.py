"""What an event means inside one gateway process: whom it answers, and which parts of whose page it changes."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.gateway.streams.hub import ANSWERS, CHANGES, HALTS, Answer, Live, answers_within
from shared.contracts.accounts import OfAccount
from shared.contracts.routing import LIVE

NAMES = {message.wire_name(): message for message in LIVE}
OURS = [message for message in LIVE if issubclass(message, OfAccount)]
REFUSALS = {"CancelRejected.v1", "ReplaceRejected.v1", "CashRefused.v1"}


async def all_told() -> None:
    """What the bus's thread has handed to the loop so far is done, one after the other."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done


def test_every_event_of_an_account_is_known() -> None:
    """Each changes a page or refuses something; what is awaited stands in the field that names it."""
    assert CHANGES.keys() | REFUSALS == {message.wire_name() for message in OURS}
    assert [name for name, field in ANSWERS.items() if field not in NAMES[name].model_fields] == []


@pytest.mark.parametrize("name", [message.wire_name() for message in OURS])
def test_a_page_is_told_of_its_own_account_only(name: str) -> None:
    """The parts that the event changes; none of a refusal."""

    async def told() -> tuple[set[str], set[str]]:
        live, account_id = Live(), uuid4()
        live.attach(asyncio.get_running_loop())
        with live.stream(account_id) as own, live.stream(uuid4()) as other:
            live.on_message(name, _body(account_id=account_id))
            await all_told()
            return own.take()[0], other.take()[0]

    assert asyncio.run(told()) == (set(CHANGES.get(name, ())), set())


@pytest.mark.parametrize("name", sorted(HALTS))
def test_all_pages_are_told_of_halts(name: str) -> None:
    """Whatever account they are of."""

    async def told() -> list[set[str]]:
        live = Live()
        live.attach(asyncio.get_running_loop())
        with live.stream(uuid4()) as one, live.stream(uuid4()) as other:
            live.on_message(name, _body(symbol="AAPL"))
            await all_told()
            return [one.take()[0], other.take()[0]]

    assert asyncio.run(told()) == [{"halts"}, {"halts"}]


@pytest.mark.parametrize(("name", "field"), ANSWERS.items())
def test_whoever_waits_is_answered_once_and_only_about_what_they_asked(name: str, field: str) -> None:
    """The first answer counts; a refusal is told by its message."""

    async def answers() -> list[Answer | None]:
        live, awaited = Live(), uuid4()
        live.attach(asyncio.get_running_loop())
        with live.waiting_for(awaited) as ours, live.waiting_for(uuid4()) as others:
            live.on_message(name, _body(**{field: awaited}))
            live.on_message(name, _body(**{field: awaited}, later=True))
            return [*await answers_within(5, [ours]), *await answers_within(0, [others])]

    answer, nothing = asyncio.run(answers())
    assert nothing is None
    assert answer is not None
    assert (answer.name, "later" in answer.body, answer.refused) == (name, False, True)


def _body(**given: Any) -> dict[str, Any]:
    """Of any event: each id is of something else unless it is given."""
    ids = {field: uuid4() for field in {"account_id", *ANSWERS.values()}}
    whole = {**ids, "reason": "why", "message": "Because.", **given}
    return {name: str(each) if isinstance(each, UUID) else each for name, each in whole.items()}
