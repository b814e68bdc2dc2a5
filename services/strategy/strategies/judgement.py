"""The outcome of a decision: an order of some size, or the reason for none. The same holds live and in a backtest."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.protections import Protections, Standing, refusal
from services.strategy.strategies.sizing import Sized, Sizing, Terms, size
from services.strategy.strategies.view import Account, Position, SymbolView
from shared.contracts.orders import Side

#: The reason and the conditions of one decision.
MOST_CHARACTERS = 50_000
#: Characters of a reason, of a condition with the names of its values, and conditions, that need no closer look.
SHORT, MOST_PLAIN, MOST_SHORT = 500, 2_000, 20
_ENTRIES = {Action.ENTER_LONG, Action.ENTER_SHORT}
#: The cut of a second order on one bar.
TRADED = "The strategy has traded on this bar already."


class Outcome(StrEnum):
    #: The strategy wants nothing.
    HELD = "held"
    ORDERED = "ordered"
    #: Sizing or the limits left nothing to order.
    CUT = "cut"
    #: A protection forbids to enter.
    BLOCKED = "blocked"
    #: The bar has been traded on already.
    REPEATED = "repeated"
    #: The strategy raised an error or did not end in time.
    FAILED = "failed"


class Judged(NamedTuple):
    """The outcome of a decision. ``closes``: the order closes shares, and the exits that hold these end before it.

    ``opens``: it enters a position, perhaps after it closed one on the other side. ``signals``: it is worth a signal,
    because it had a price and a size was looked for.
    """

    outcome: Outcome
    sized: Sized = Sized(None)
    closes: bool = False
    signals: bool = False
    opens: bool = False


@dataclass(frozen=True, slots=True)
class Trader:
    """The facts that a decision is judged by besides its symbol. ``standing`` counts the orders to enter."""

    sizing: Sizing
    protections: Protections
    standing: Standing


def judge(
    decision: Decision, symbol: SymbolView, account: Account, rate: Decimal | None, trader: Trader, *, traded: bool
) -> Judged:
    """Size the decision within all limits. ``rate`` is the price of a unit of the instrument's currency.

    ``traded``: the strategy has sent an order on this bar before.
    """
    if decision.action is Action.HOLD:
        return Judged(Outcome.HELD)
    quote = symbol.quote
    price = quote.last if quote is not None else symbol.close
    if symbol.bar is None or price is None or rate is None:
        missing = "price" if rate is not None else "rate to the account's currency"
        return Judged(Outcome.CUT, Sized(None, cuts=(f"There is no {missing} yet.",)))
    if traded:
        return Judged(Outcome.REPEATED, Sized(None, cuts=(TRADED,)))
    sized = size(decision, symbol, trader.sizing, Terms(account, price, rate))
    if sized.side is None:
        return Judged(Outcome.CUT, sized, signals=True)
    held = abs(symbol.position.qty)
    closes = _closes(decision, sized, symbol.position)
    opens = not closes or (decision.action in _ENTRIES and sized.qty > held)
    why = refusal(trader.protections, trader.standing, decision.symbol) if opens else None
    if why is not None and not closes:
        return Judged(Outcome.BLOCKED, Sized(None, cuts=(why,)), signals=True)
    if why is not None:
        sized, opens = sized._replace(qty=held, cuts=(*sized.cuts, why)), False
    if opens:
        trader.standing.entered(decision.symbol)
    return Judged(Outcome.ORDERED, sized, closes, signals=True, opens=opens)


def _closes(decision: Decision, sized: Sized, position: Position) -> bool:
    """True if the order closes shares of the position, whatever else it opens."""
    return decision.action is Action.EXIT or (
        (position.qty > 0 and sized.side is Side.SELL) or (position.qty < 0 and sized.side is Side.BUY)
    )


def checked(given: Iterable[Any], symbols: Iterable[str]) -> Iterable[Decision]:
    """Yield the decisions. Raises ValueError for one that is none, or the second one on a symbol."""
    left = set(symbols)
    for decision in given:
        if not isinstance(decision, Decision) or decision.symbol not in left:
            raise ValueError(f"is no decision on one of the symbols, or the second one: {decision!r}"[:200])
        left.remove(decision.symbol)
        yield decision


def check_texts(decision: Decision) -> None:
    """Raise ValueError for a decision that cannot be stored or published."""
    if not (0 <= decision.strength <= 1 and 0 <= decision.confidence <= 1):
        raise ValueError("strength and confidence must be between 0 and 1")
    plain = (
        len(decision.conditions) <= MOST_SHORT
        and len(decision.reason) <= SHORT
        and decision.reason.isascii()
        and decision.reason.isprintable()
    )
    if plain and all(_is_plain(each) for each in decision.conditions):
        return
    text = json.dumps([decision.reason, decision.conditions], default=str)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"reason and conditions must not be longer than {MOST_CHARACTERS} characters of JSON")
    if re.search(r"\\u(0000|[dD][89a-fA-F])", text):
        raise ValueError("reason and conditions must not contain NUL or lone surrogates")


def _is_plain(condition: Condition) -> bool:
    """True for a short condition of numbers in plain letters, as nearly all are."""
    texts = condition.text
    for name, value in condition.values:
        if isinstance(value, str):
            return False
        texts += name
    return len(texts) <= MOST_PLAIN and texts.isascii() and texts.isprintable()
