"""Let one strategy decide on its symbols, and turn its decisions into rows, signals and orders. Pure: no database."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from uuid import UUID, uuid5

from services.strategy.persistence.decisions import DecisionRow, Outcome, SignalRow
from services.strategy.persistence.market import INTERVALS
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.ordering import order_for
from services.strategy.strategies.sizing import Sized, Terms, size
from services.strategy.strategies.view import (
    NO_POSITION,
    NO_SESSION,
    Account,
    Bar,
    History,
    Position,
    SymbolView,
    View,
)
from services.strategy.usecases.load import Loaded, Prepared
from services.strategy.usecases.protections import Standing, refusal
from shared.contracts.orders import Side, SubmitOrder
from shared.money import ZERO

#: The histories of an evaluation: symbol and interval → its bars with the values of every indicator.
Histories = Mapping[tuple[str, str], History]
#: The reason and the conditions of one decision.
MOST_CHARACTERS = 50_000
#: The cut of a second order on one bar.
TRADED = "The strategy has traded on this bar already."


@dataclass(frozen=True, slots=True)
class Wish:
    """A decision with its signal and its order. ``cancels`` are exits of a bracket, which hold the shares to sell."""

    row: DecisionRow
    signal: SignalRow | None = None
    order: SubmitOrder | None = None
    cancels: tuple[UUID, ...] = ()


def decide(prepared: Prepared, loaded: Loaded, histories: Histories) -> list[Wish]:
    """The strategy's decisions. Raises whatever the strategy raises, and ValueError for a decision that is none."""
    row, account = prepared.row, loaded.accounts[prepared.row.account_id]
    symbols = {name: _symbol(prepared, loaded, histories, name) for name in row.symbols}
    seen = Account(account.equity, account.cash, account.buying_power, account.currency)
    view = View(loaded.now, symbols, seen, INTERVALS[row.interval])
    standing = Standing(
        loaded.now,
        {name for name, each in symbols.items() if _is_open(each.position)},
        loaded.entries.get(row.id, 0),
        {symbol: at for (owner, symbol), at in loaded.closed_at.items() if owner == row.id},
    )
    wishes: dict[str, Wish] = {}
    for decision in prepared.strategy.decide(view):
        if not isinstance(decision, Decision) or decision.symbol not in symbols or decision.symbol in wishes:
            raise ValueError(f"is no decision on one of the symbols, or the second one: {decision!r}"[:200])
        _check(decision)
        wishes[decision.symbol] = _wish(prepared, loaded, view, decision, standing)
    return list(wishes.values())


def _check(decision: Decision) -> None:
    """Raise ValueError for a decision that cannot be stored or published."""
    if not (0 <= decision.strength <= 1 and 0 <= decision.confidence <= 1):
        raise ValueError("strength and confidence must be between 0 and 1")
    text = json.dumps([decision.reason, decision.conditions], default=str)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"reason and conditions must not be longer than {MOST_CHARACTERS} characters of JSON")
    if re.search(r"\\u(0000|[dD][89a-fA-F])", text):
        raise ValueError("reason and conditions must not contain NUL or lone surrogates")


def _wish(prepared: Prepared, loaded: Loaded, view: View, decision: Decision, standing: Standing) -> Wish:
    """The decision with its order, or with the reasons why it has none."""
    row, symbol = prepared.row, view.symbols[decision.symbol]
    looked = _row(prepared, view, decision, Outcome.HELD)
    if decision.action is Action.HOLD:
        return Wish(looked)
    bar, price = symbol.bar, symbol.quote.last if symbol.quote else symbol.close
    rate = rate_of(loaded, decision.symbol, view.account.currency)
    if bar is None or price is None or rate is None:
        missing = "price" if rate is not None else "rate to the account's currency"
        return Wish(replace(looked, outcome=Outcome.CUT, cuts=(f"There is no {missing} yet.",)))
    if (row.id, decision.symbol) in loaded.traded:
        return Wish(replace(looked, outcome=Outcome.REPEATED, cuts=(TRADED,)))
    sized = size(decision, symbol, prepared.sizing, Terms(view.account, price, rate))
    closes = _closes(decision, sized, symbol.position)
    why = None if sized.side is None or closes else refusal(prepared.protections, standing, decision.symbol)
    signal = _signal(prepared, symbol, decision, bar, price)
    if sized.side is None or why is not None:
        outcome, cuts = (Outcome.CUT, sized.cuts) if why is None else (Outcome.BLOCKED, (why,))
        return Wish(replace(looked, outcome=outcome, cuts=cuts), signal)
    if not closes:
        standing.entered(decision.symbol)
    order = order_for(
        decision,
        sized,
        sized.side,
        account_id=row.account_id,
        order_id=signal.id,
        client_order_id=f"{row.id}-{bar.start:%Y%m%dT%H%M%S%f}-{decision.symbol}",
        strategy_id=row.id,
        at=loaded.now,
    )
    ordered = loaded.ordered.get((row.id, decision.symbol))
    cancels = tuple(ordered.exits) if ordered is not None and closes else ()
    side, qty = sized.side, sized.qty
    done = replace(looked, outcome=Outcome.ORDERED, cuts=sized.cuts, side=side, qty=qty, order_id=signal.id)
    return Wish(done, replace(signal, side=side, order_id=signal.id), order, cancels)


def _closes(decision: Decision, sized: Sized, position: Position) -> bool:
    """True if the order closes shares of the position, whatever else it opens."""
    return decision.action is Action.EXIT or (
        (position.qty > 0 and sized.side is Side.SELL) or (position.qty < 0 and sized.side is Side.BUY)
    )


def _symbol(prepared: Prepared, loaded: Loaded, histories: Histories, name: str) -> SymbolView:
    instrument, history = loaded.instruments.get(name), histories[name, prepared.row.interval]
    values = {own: history.indicators[key_of(wanted)] for own, wanted in prepared.indicators.items()}
    return SymbolView(
        name,
        History(history.bars, values),
        len(history.bars) - 1,
        _position(prepared, loaded, name),
        instrument.quote if instrument else None,
        loaded.sessions.get(instrument.market, NO_SESSION) if instrument else NO_SESSION,
    )


def key_of(wanted: object) -> str:
    """The name of an indicator among those of all strategies."""
    return repr(wanted)


def _position(prepared: Prepared, loaded: Loaded, name: str) -> Position:
    key = prepared.row.id, name
    held, ordered = loaded.held.get(key), loaded.ordered.get(key)
    buying, selling = (ordered.buying, ordered.selling) if ordered else (ZERO, ZERO)
    if held is None:
        return Position(buying=buying, selling=selling) if ordered else NO_POSITION
    rate = rate_of(loaded, name, loaded.accounts[prepared.row.account_id].currency)
    price = held.cost / held.qty / rate if rate else None
    return Position(held.qty, price, held.entered_at, buying, selling)


def rate_of(loaded: Loaded, symbol: str, currency: str) -> Decimal | None:
    """The price of a unit of the instrument's currency in the account's. None where it is not known."""
    instrument = loaded.instruments.get(symbol)
    if instrument is None or instrument.currency == currency:
        return Decimal(1)
    return loaded.rates.get((instrument.currency, currency))


def _is_open(position: Position) -> bool:
    return bool(position.qty or position.buying or position.selling)


def _row(prepared: Prepared, view: View, decision: Decision, outcome: Outcome) -> DecisionRow:
    symbol = view.symbols[decision.symbol]
    bar, quote = symbol.bar, symbol.quote
    return DecisionRow(
        strategy_id=prepared.row.id,
        symbol=decision.symbol,
        version=prepared.row.version,
        action=decision.action.value,
        outcome=outcome,
        reason=decision.reason,
        bar_at=bar.start if bar else None,
        close=bar.close if bar else None,
        last=quote.last if quote else None,
        quote_at=quote.at if quote else None,
        position=symbol.position.qty,
        equity=view.account.equity,
        conditions=decision.conditions,
    )


def _signal(prepared: Prepared, symbol: SymbolView, decision: Decision, bar: Bar, price: Decimal) -> SignalRow:
    """The signal of a decision to act. Its id is that of the order which it may send."""
    return SignalRow(
        id=uuid5(prepared.row.id, f"{decision.symbol}/{bar.start.isoformat()}"),
        strategy_id=prepared.row.id,
        symbol=decision.symbol,
        version=prepared.row.version,
        bar_at=bar.start,
        type=decision.action.value,
        side=None,
        price=price,
        strength=decision.strength,
        confidence=decision.confidence,
        reason=decision.reason,
        indicators={name: symbol.value(name) for name in prepared.indicators},
        order_id=None,
    )
