"""Corporate actions that providers report: stored once, applied at the open of their ex-date, and corrected."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from services.marketdata.actors import enter_corporate_action
from services.marketdata.providers.provider import FoundAction, Listed, Part, Provider, ProviderDown, Throttled, Traits
from services.marketdata.usecases.corporate_actions import apply_due
from services.marketdata.usecases.fetch_actions import fetch_actions
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied, EnterCorporateAction
from shared.contracts.instruments import AssetClass
from shared.jobs.run_context import Counts, RunContext
from tests.component.auction_days import FRIDAY, MONDAY, WEDNESDAY, at, utc
from tests.component.paper_exchange import Exchange
from tests.component.watching import outbox
from tests.support import rows

TUESDAY = WEDNESDAY - timedelta(days=1)


class Reporting(Provider):
    """A provider that reports what the test says, and fails with ``error`` if that is set."""

    traits: ClassVar[Traits] = Traits(
        name="reporting", parts=frozenset({Part.ACTIONS}), asset_classes=frozenset({AssetClass.US_EQUITY})
    )

    def __init__(self, *found: FoundAction) -> None:
        self.found = list(found)
        self.error: Exception | None = None
        self.asked: list[tuple[str, date]] = []

    def actions(self, instrument: Listed, begin: date, end: date) -> list[FoundAction]:
        self.asked.append((instrument.symbol, begin))
        if self.error is not None:
            raise self.error
        return [each for each in self.found if each.symbol == instrument.symbol and begin <= each.ex_date <= end]


class Another(Reporting):
    traits: ClassVar[Traits] = Traits(
        name="another", parts=frozenset({Part.ACTIONS}), asset_classes=frozenset({AssetClass.US_EQUITY})
    )


def dividend(amount: str, ex_date: date = FRIDAY, pay_date: date | None = MONDAY, **fields: Any) -> FoundAction:
    given = {"symbol": "AAPL", "kind": "dividend", "amount": Decimal(amount), **fields}
    return FoundAction(ex_date=ex_date, pay_date=pay_date, **given)


def split(new: int, old: int, ex_date: date = FRIDAY) -> FoundAction:
    return FoundAction(symbol="AAPL", kind="split", ex_date=ex_date, new_shares=new, old_shares=old)


def fetch(floor: Exchange, *providers: Provider, later: timedelta = timedelta(hours=7)) -> Counts:
    """Fetch as the job does, so much later than the last time."""
    floor.clock.now += later
    run = RunContext(uuid4(), floor.marketdata, floor.clock.now, {})
    return fetch_actions(run, {AssetClass.US_EQUITY: list(providers)})


def stored(floor: Exchange) -> list[Any]:
    return rows(floor.marketdata.engine, "SELECT * FROM marketdata.corporate_actions_v1 ORDER BY ex_date, kind")


def apply_all(floor: Exchange) -> list[CorporateActionApplied]:
    """Apply what is due, and let orders hear of it. Returns all messages."""
    with floor.marketdata.unit_of_work() as uow:
        count = apply_due(uow)
    sent = [each.body for each in outbox(floor.marketdata) if each.name == "CorporateActionApplied.v1"]
    found = [CorporateActionApplied.model_validate(body) for body in sent]
    for event in found[len(found) - count :]:
        floor.handle(event)
    return found


def holding(floor: Exchange) -> Any:
    """An account that bought ten shares of AAPL on Wednesday after the open."""
    at(floor, "14:31")
    account = floor.open()
    floor.submit(account)
    floor.price("AAPL 100/100 100")
    return account


def test_actions_are_stored_once_and_take_effect_when_trading_begins_on_the_ex_date(floor: Exchange) -> None:
    """New York's day begins at 04:00. A day without trading gives way to the next one. A split is two whole numbers."""
    saturday = FRIDAY + timedelta(days=1)
    provider = Reporting(dividend("0.25"), split(1, 3, saturday))
    assert fetch(floor, provider) == {"actions_stored": 2}
    paid, reverse = stored(floor)
    assert (paid.kind, paid.amount, paid.effective_at, paid.pay_at) == (
        "dividend",
        Decimal("0.25"),
        utc(FRIDAY, "09:00"),
        utc(MONDAY, "09:00"),
    )
    assert (reverse.new_shares, reverse.old_shares, reverse.effective_at) == (1, 3, utc(MONDAY, "09:00"))
    assert {(row.provider, row.applied_at) for row in (paid, reverse)} == {("reporting", None)}
    assert fetch(floor, provider) == {}
    assert stored(floor) == [paid, reverse]


def test_a_fetched_split_is_applied_at_its_time_and_once(floor: Exchange) -> None:
    """Its holder has new shares from the open on, however often it is fetched."""
    account = holding(floor)
    provider = Reporting(split(2, 1))
    fetch(floor, provider)
    assert apply_all(floor) == []
    at(floor, "09:00", FRIDAY)
    assert len(apply_all(floor)) == 1
    assert floor.held(account) == 20
    assert fetch(floor, provider) == {}
    assert len(apply_all(floor)) == 1
    assert floor.held(account) == 20


def test_a_provider_corrects_and_withdraws_what_has_not_been_applied(floor: Exchange) -> None:
    """A moved ex-date does not apply the action twice. Dividends of one day are one."""
    provider = Reporting(dividend("0.25"), split(2, 1))
    fetch(floor, provider)
    provider.found = [dividend("0.30"), dividend("1.00", pay_date=None), split(2, 1, MONDAY)]
    assert fetch(floor, provider) == {"actions_updated": 1, "actions_stored": 1, "actions_withdrawn": 1}
    assert [(row.kind, row.ex_date, row.amount) for row in stored(floor)] == [
        ("dividend", FRIDAY, Decimal("1.30")),
        ("split", MONDAY, None),
    ]


def test_a_correction_of_an_applied_action_is_reported_and_changes_no_books(floor: Exchange) -> None:
    """It is reported once, beside the action."""
    account = holding(floor)
    provider = Reporting(split(2, 1))
    fetch(floor, provider)
    at(floor, "09:00", FRIDAY)
    apply_all(floor)
    provider.found = [split(3, 1)]
    assert fetch(floor, provider) == {"corrections_reported": 1}
    assert fetch(floor, provider) == {}
    (row,) = stored(floor)
    assert (row.new_shares, row.correction) == (2, {"new_shares": 3, "old_shares": 1})
    assert (floor.held(account), len(apply_all(floor))) == (20, 1)


def test_an_action_that_an_operator_entered_is_not_applied_twice(floor: Exchange) -> None:
    """It stays as it was entered, and the difference is reported."""
    account = holding(floor)
    entered = EnterCorporateAction(
        action_id=uuid4(), symbol="AAPL", kind=ActionKind.SPLIT, ratio=Decimal(2), effective_at=utc(FRIDAY, "14:30")
    )
    with floor.marketdata.unit_of_work() as uow:
        enter_corporate_action(entered, uow)
    assert fetch(floor, Reporting(split(2, 1))) == {}
    assert fetch(floor, Reporting(split(4, 1))) == {"corrections_reported": 1}
    at(floor, "15:00", FRIDAY)
    apply_all(floor)
    assert (floor.held(account), len(stored(floor))) == (20, 1)


def test_history_adjusts_bars_and_touches_neither_prices_nor_positions(floor: Exchange) -> None:
    """The first time all actions are fetched. Nobody held the shares then, and today's price is of new shares."""
    account = holding(floor)
    provider = Reporting(split(7, 1, date(2014, 6, 9)), dividend("0.82", date(2020, 2, 7), None))
    assert fetch(floor, provider) == {"actions_stored": 2}
    assert all(row.applied_at is not None and row.split_count == 0 for row in stored(floor))
    assert apply_all(floor) == []
    now = "SELECT last, split_count FROM marketdata.instruments_v1 WHERE symbol = 'AAPL'"
    (price,) = rows(floor.marketdata.engine, now)
    assert (price.last, price.split_count, floor.held(account)) == (100, 0, 10)
    assert ("AAPL", date(1990, 1, 1)) in provider.asked
    fetch(floor, provider)
    assert provider.asked[-1][1] >= WEDNESDAY - timedelta(days=31)


def test_a_split_that_is_found_late_reaches_its_holders_and_not_the_price_after_it(floor: Exchange) -> None:
    """The provider had sent a price of new shares before it told of the split."""
    account = holding(floor)
    at(floor, "15:00", FRIDAY)
    floor.price("AAPL 50/50 50")
    assert fetch(floor, Reporting(split(2, 1)), later=timedelta(0)) == {"actions_stored": 1}
    (event,) = apply_all(floor)
    assert event.last == Decimal(50)
    assert floor.held(account) == 20


def test_a_wrong_action_is_refused_and_the_others_are_kept(floor: Exchange) -> None:
    """A dividend below zero, and a kind that there is not."""
    bad = [dividend("-1", TUESDAY), FoundAction(symbol="AAPL", kind="merger", ex_date=FRIDAY)]
    assert fetch(floor, Reporting(*bad, dividend("0.25"))) == {"actions_refused": 2, "actions_stored": 1}
    assert [row.amount for row in stored(floor)] == [Decimal("0.25")]


def test_held_shares_are_asked_first_and_another_provider_answers_for_one_that_fails(floor: Exchange) -> None:
    """A provider that takes no more requests is left alone for the rest of the run."""
    account = floor.open()
    floor.submit(account, "buy 10 MSFT market")
    at(floor, "14:31")
    floor.price("MSFT 100/100 100")
    first, second = Reporting(), Another(dividend("0.25"))
    first.error = ProviderDown("no answer")
    assert fetch(floor, first, second) == {"actions_stored": 1}
    assert [symbol for symbol, _ in first.asked] == [symbol for symbol, _ in second.asked]
    assert second.asked[0][0] == "MSFT"
    first.error = Throttled("too many requests")
    first.asked.clear()
    fetch(floor, first, second)
    assert len(first.asked) == 1


@pytest.mark.parametrize(("error", "requests"), [(Throttled("too many requests"), 1), (ProviderDown("no answer"), 3)])
def test_a_run_without_any_answer_fails_and_is_retried(floor: Exchange, error: Exception, requests: int) -> None:
    """Nothing counts as asked."""
    provider = Reporting()
    provider.error = error
    with pytest.raises(type(error)):
        fetch(floor, provider)
    assert len({symbol for symbol, _ in provider.asked}) == requests
    asked: Sequence[Any] = rows(
        floor.marketdata.engine, "SELECT symbol FROM marketdata.instruments WHERE actions_fetched_at IS NOT NULL"
    )
    assert asked == []


def test_without_a_network_provider_nothing_is_fetched(floor: Exchange) -> None:
    """As in the demo."""
    run = RunContext(uuid4(), floor.marketdata, floor.clock.now, {})
    assert fetch_actions(run, {}) == {}
