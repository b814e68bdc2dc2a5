"""The exchange keeps its books whatever people, prices and crashes do, and crashes change nothing of the outcome.

PAPERPROFIT_TEST_STATES is the number of markets that are tried, each another time: without it a few, always the same.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from shared.contracts.accounts import ConfigureAccount, MoveCash, OpenAccount, ResetAccount
from shared.contracts.base import Message
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied
from shared.contracts.official_prices import AuctionKind
from shared.contracts.orders import CancelOrder, ReplaceOrder, SubmitOrder, SubmitOrders
from shared.contracts.prices import Price, PricesUpdated
from shared.money import CENT
from tests.component.auction_days import CLOSES, FRIDAY, MONDAY, WEDNESDAY, utc
from tests.component.crashes import NO_CRASH, Crash, CrashPoint
from tests.component.exchange_oracle import COME, Key, Model, Oracle, came_out
from tests.component.simulated_exchange import (
    JOBS,
    LYING,
    START,
    STEP,
    Auctioned,
    Event,
    Exchange,
    Priced,
    Said,
    Worked,
    exchange,
)
from tests.conftest import database
from tests.simulation import Faults
from tests.unit.random_market import KINDS, OWNERS, SYMBOLS, changes_of, level_of, quote_of, terms_of
from tests.unit.trading_examples import quote, submission

LONG = int(os.environ.get("PAPERPROFIT_TEST_STATES", "0"))
STEPS = 20
PROFILE = settings(
    max_examples=LONG or 14,
    stateful_step_count=STEPS,
    derandomize=not LONG,
    database=None,
    deadline=None,
    print_blob=True,
    phases=list(Phase) if LONG else [Phase.generate],  # to make a failure smaller takes minutes
    suppress_health_check=list(HealthCheck),
)
#: Where a day is at: the times to which the clock jumps, and what IBM's auction before them was.
TIMES: Sequence[tuple[datetime, AuctionKind | None, Any]] = (
    (utc(WEDNESDAY, "14:40"), AuctionKind.OPEN, WEDNESDAY),
    (utc(WEDNESDAY, "21:10"), AuctionKind.CLOSE, WEDNESDAY),
    (utc(FRIDAY, "13:00"), None, None),
    (utc(FRIDAY, "14:40"), AuctionKind.OPEN, FRIDAY),
    (utc(FRIDAY, "18:10"), AuctionKind.CLOSE, FRIDAY),
    (utc(MONDAY, "13:00"), None, None),
)
#: Drawn by seeds: what Hypothesis draws bit by bit are mostly the simplest orders and prices, which never meet.
randoms = st.integers(0, 2**32).map(Random)
owners = st.sampled_from(OWNERS)
crashes = st.just(NO_CRASH) | st.builds(Crash, st.sampled_from(CrashPoint), st.integers(0, 7))
cash = st.integers(300_000, 6_000_000).map(lambda whole: whole * CENT)


class Exchanges(RuleBasedStateMachine):
    """Each step happens on the exchange whose workers die. At the end the same steps happen where nobody does."""

    stormy: Exchange
    calm: Exchange
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.now = START
        self.steps: list[tuple[Event, datetime]] = []
        self.numbers = 0
        self.times = list(TIMES)

    @initialize(seed=st.integers(0, 2**32), start=st.tuples(*[cash] * len(OWNERS)))
    def open(self, seed: int, start: tuple[Decimal, ...]) -> None:
        self.stormy.open(seed)
        self.oracle = Oracle(self.stormy, self.model, dict(zip(OWNERS, start, strict=True)), self.seen)
        for owner, paid in zip(OWNERS, start, strict=True):
            self._say(OpenAccount(account_id=owner, name="test", cash=paid, settings=KINDS[owner]))

    # what people do

    @rule(owner=owners, random=randoms, crash=crashes)
    def submit(self, owner: UUID, random: Random, crash: Crash) -> None:
        """Some orders at once, and then a price."""
        commands = [self._order(owner, random) for _ in range(random.randint(1, 5))]
        new = [each for each in commands if Key(owner, each.order_id) not in self.model.submitted]
        for command in new:
            self.model.submitted[Key(owner, command.order_id)] = command
            self.model.asked_at[Key(owner, command.order_id)] = self.now
        if len(commands) == 1:
            self._say(commands[0], crash)
        else:
            self._say(SubmitOrders(account_id=owner, orders=commands), crash)
        self.prices(random, random.choice([NO_CRASH, crash]))

    def _trade(self, random: Random) -> None:
        """Hypothesis leaves out some rules in each market. There is none without trade."""
        if random.random() < 0.7:
            self.submit(random.choice(OWNERS), random, NO_CRASH)

    def _order(self, owner: UUID, random: Random) -> SubmitOrder:
        self.numbers += 1
        number = (self.numbers + 1) // 2  # each id is used twice; by two accounts, mostly
        fields: dict[str, Any] = {"account_id": owner, "submitted_at": self.now}
        text = terms_of(random)
        if random.random() < 0.15:
            side, kind = random.choice(["buy", "sell"]), random.choice(["market", f"limit {level_of(random)}"])
            text = f"{side} {random.randint(1, 20)} IBM {kind} {random.choice(['opg', 'cls'])}"
        elif random.random() < 0.1:
            text, fields["extended_hours"] = f"buy {random.randint(1, 20)} IBM limit {level_of(random)} day", True
        elif random.random() < 0.03:
            text = "buy 1 XYZ market"
        return submission(text, number, **fields)

    @precondition(lambda self: self.model.submitted)
    @rule(nth=st.integers(0, 99), random=randoms, crash=crashes)
    def submit_again(self, nth: int, random: Random, crash: Crash) -> None:
        """A sender without an answer asks again, with the same order."""
        self._trade(random)
        known = list(self.model.submitted.values())
        self._say(known[nth % len(known)], crash)

    @rule(nth=st.integers(0, 99), random=randoms, crash=crashes)
    def cancel(self, nth: int, random: Random, crash: Crash) -> None:
        self._trade(random)
        key = self._nth(nth, among_all=random.random() < 0.2)
        self.model.cancels[key] += 1
        self._say(CancelOrder(account_id=key.account, order_id=key.order, requested_at=self.now), crash)

    @rule(nth=st.integers(0, 99), random=randoms, crash=crashes)
    def replace(self, nth: int, random: Random, crash: Crash) -> None:
        self._trade(random)
        key = self._nth(nth, among_all=random.random() < 0.1)
        new = uuid5(key.order, f"{key.account} {self.now}")
        self.model.asked_at[Key(key.account, new)] = self.now
        self.model.replaces[Key(key.account, new)] += 1
        changes = changes_of(random)
        command = ReplaceOrder(
            account_id=key.account, order_id=key.order, new_order_id=new, requested_at=self.now, **changes
        )
        self._say(command, crash)

    def _nth(self, nth: int, *, among_all: bool) -> Key:
        """An open order, or any, or one that never was."""
        found = [key for key, row in self.oracle.before.items() if among_all or row.status in COME]
        found += [Key(OWNERS[0], UUID(int=nth))] if among_all or not found else []
        return found[nth % len(found)]

    @rule(owner=owners, random=randoms, crash=crashes)
    def steer(self, owner: UUID, random: Random, crash: Crash) -> None:
        """Cash in or out, trading blocked or not, or all from the beginning."""
        self._trade(random)
        about = uuid5(owner, str(self.now))
        amount = random.randint(-1_000_000, 1_000_000) * CENT
        kind = random.choices([MoveCash, ConfigureAccount, ResetAccount], [6, 3, 1])[0]
        if kind is MoveCash:
            self.model.moved[about] = MoveCash(account_id=owner, transfer_id=about, amount=amount or CENT)
        elif kind is ResetAccount:
            self.model.moved[about] = ResetAccount(account_id=owner, reset_id=about, cash=abs(amount))
        else:
            changed = KINDS[owner].model_copy(update={"trading_blocked": random.random() < 0.2})
            self._say(ConfigureAccount(account_id=owner, settings=changed), crash)
            return
        self._say(self.model.moved[about], crash)

    # what the market does

    @rule(random=randoms, crash=crashes)
    def prices(self, random: Random, crash: Crash) -> None:
        """Some of which are stale, or have a gap before them."""
        symbols = random.sample(SYMBOLS, random.randint(1, 3))
        made = [self._price(random, symbol) for symbol in symbols]
        if random.random() < 0.1:
            made = [
                each.model_copy(update={"quoted_at": self.now - timedelta(minutes=5), "since": None, "bar_start": None})
                for each in made
            ]
        self._show(made)
        self._tell(made, crash)

    @rule(random=randoms)
    def lose_prices(self, random: Random) -> None:
        """Nobody is told of them now, but perhaps later, when newer ones are known."""
        made = [self._price(random, random.choice(SYMBOLS))]
        self.model.late += made
        self._show(made)

    @precondition(lambda self: self.model.prices)
    @rule(nth=st.integers(0, 99), random=randoms, crash=crashes)
    def old_price(self, nth: int, random: Random, crash: Crash) -> None:
        """A price that comes late, or for the second time."""
        self._trade(random)
        known = self.model.late or list(self.model.prices.values())
        price = known[nth % len(known)]
        if price in self.model.late:
            self.model.late.remove(price)
        self._tell([price], crash, at=price.quoted_at)

    def _price(self, random: Random, symbol: str) -> Price:
        text, known = quote_of(random, symbol)
        self.model.sequences[symbol] += random.choice([1, 1, 1, 3])
        since, start = (
            None if ago is None else self.now - timedelta(seconds=random.choice([1, 40])) - ago
            for ago in (known.pop("began"), known.pop("started"))
        )
        sequence, split_count = self.model.sequences[symbol], self.model.split_counts[symbol]
        return quote(
            text, at=self.now, sequence=sequence, split_count=split_count, **known, since=since, bar_start=start
        )

    def _show(self, prices: Sequence[Price]) -> None:
        """Marketdata's view has them, and the euro's rate."""
        self.model.sequences["EUR/USD"] += 1
        euro = quote("EUR/USD 1.09/1.11 1.10", at=self.now, sequence=self.model.sequences["EUR/USD"])
        self._do(Priced((*prices, euro)))
        self.model.latest.update({price.symbol: price for price in prices})

    def _tell(self, prices: Sequence[Price], crash: Crash, at: datetime | None = None) -> None:
        self._say(PricesUpdated(prices=tuple(prices), at=at or self.now), crash, sender="marketdata")

    @rule(symbol=st.sampled_from(SYMBOLS), random=randoms, crash=crashes)
    def act(self, symbol: str, random: Random, crash: Crash) -> None:
        """A split or a dividend."""
        self._trade(random)
        if random.random() < 0.5:
            self._act(symbol, ActionKind.DIVIDEND, crash, amount=random.randint(1, 500) * CENT)
        else:
            self.model.split_counts[symbol] += 1
            self._act(symbol, ActionKind.SPLIT, crash, ratio=Decimal(random.choice(["2", "0.5", "1.5", "0.1"])))

    def _act(self, symbol: str, kind: ActionKind, crash: Crash, **figure: Decimal) -> None:
        event = CorporateActionApplied(
            action_id=uuid5(OWNERS[0], f"{symbol} {self.now}"),
            symbol=symbol,
            kind=kind,
            effective_at=self.now,
            split_count=self.model.split_counts[symbol],
            **figure,
        )
        self._say(event, crash, sender="marketdata")

    # what time does

    @rule(job=st.sampled_from(sorted(JOBS)), random=randoms, crash=crashes)
    def work(self, job: str, random: Random, crash: Crash) -> None:
        self._trade(random)
        self._do(Worked(job), crash)

    @precondition(lambda self: self.times and len(self.steps) > 20)
    @rule(random=randoms, told=st.booleans(), crash=crashes)
    def pass_time(self, random: Random, told: bool, crash: Crash) -> None:
        """An auction is held meanwhile, and a session ends with the day's orders."""
        self._trade(random)
        at, kind, day = self.times.pop(0)
        self.now = max(self.now, at + timedelta(seconds=7))
        if kind is not None and self.model.sequences["IBM"]:
            held_at = utc(day, "14:30" if kind is AuctionKind.OPEN else CLOSES[day])
            self._do(Auctioned(kind, day, level_of(random), held_at, told), crash)
        self._do(Worked("process_orders"))
        self._do(Worked("expire_orders"), crash)

    # and what comes of it

    def _say(self, message: Message, crash: Crash = NO_CRASH, sender: str = "gateway") -> None:
        self._do(Said(sender, message), crash)

    def _do(self, event: Event, crash: Crash = NO_CRASH) -> None:
        if isinstance(event, Priced):
            self.model.prices.update({(each.symbol, each.sequence, each.quoted_at): each for each in event.prices})
        until = self.now + STEP
        self.steps.append((event, until))
        self.stormy.take(event, until, crash)
        self.now = until
        if len(self.steps) > len(OWNERS) and not isinstance(event, Priced):
            self.oracle.check()

    def teardown(self) -> None:
        if not self.steps:
            return
        try:
            self.calm.open(0)
            for event, until in self.steps:
                self.calm.take(event, until)
            without, with_crashes = came_out(self.calm), came_out(self.stormy)
            for name, found in without.items():
                assert found == with_crashes[name], name
        finally:
            self.stormy.close()
            self.calm.close()


@pytest.fixture
def made(postgres: str, template: dict[str, str]) -> Iterator[type[Exchanges]]:
    """The machine with its two exchanges, each on a database of its own."""
    with (
        database(postgres, template) as one,
        database(postgres, template) as other,
        exchange(one, LYING) as stormy,
        exchange(other, Faults()) as calm,
    ):
        yield type("Made", (Exchanges,), {"stormy": stormy, "calm": calm, "seen": Counter()})


def run(made: type[Exchanges], profile: settings) -> None:
    """Each market has all its steps: by itself Hypothesis would leave many of them short."""
    run_state_machine_as_test(made, settings=profile, _min_steps=STEPS - 1)


@pytest.mark.timeout(180 + 20 * LONG)
def test_the_exchange_keeps_its_books_whatever_happens(made: type[Exchanges]) -> None:
    """Random orders, prices, cancels, replaces and splits have the same outcome with crashes as without."""
    run(made, PROFILE)
    assert set(made.stormy.injector.counts) == set(CrashPoint) - {CrashPoint.NONE}
    assert {"quote", "open", "market", "limit", "stop", "simple", "bracket", "partially_filled"} <= set(made.seen)


def test_without_the_inbox_the_crashes_are_noticed(made: type[Exchanges], monkeypatch: pytest.MonkeyPatch) -> None:
    """This shows that the test above tests something."""
    monkeypatch.setattr("shared.bus.inbox.check_new", lambda *_: None)
    with pytest.raises(AssertionError):
        run(made, settings(PROFILE, phases=[Phase.generate], report_multiple_bugs=False))
