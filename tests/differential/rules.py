"""The intended differences from NautilusTrader. Each rule knows its differences by the tape and both outcomes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from tests.differential.differences import Difference, Tape, differences, order_groups


@dataclass(frozen=True)
class Rule:
    """``says``: what we do, and what NautilusTrader does in its place."""

    name: str
    says: str
    knows: Callable[[Difference], bool]


def _better_than_limit(found: Difference) -> bool:
    a, b, terms = found.a, found.b, found.terms
    if found.quote is None or a is None or b is None or terms.limit is None:
        return False
    at = terms.pays(found.quote)
    return a.qty == b.qty and terms.within(at) and not found.rests and b.price == terms.limit != at


def _limit_that_rests(found: Difference) -> bool:
    a, b, terms = found.a, found.b, found.terms
    if found.quote is None or a is None or b is None or terms.limit is None:
        return False
    return a.qty == b.qty and found.rests and b.price == terms.pays(found.quote) != terms.limit


def _stop_is_no_price(found: Difference) -> bool:
    a, b, terms = found.a, found.b, found.terms
    if found.quote is None or a is None or b is None or terms.kind != "stop_limit":
        return False
    at = terms.pays(found.quote)
    return a.qty == b.qty and terms.within(at) and b.price == terms.stop != at


def _last_triggers(found: Difference) -> bool:
    """The bid or ask had reached the stop, no last trade had."""
    if found.quote is None or found.b is None or found.a is not None or found.shared:
        return False
    seen = [(found.terms_at(quote), quote) for quote in found.life]
    by_quote = any(terms.reached(terms.pays(quote)) for terms, quote in seen)
    return by_quote and not any(terms.reached(quote.last) for terms, quote in seen)


def _trail_from_acceptance(found: Difference) -> bool:
    """One trail was reached and not the other: ours of the last trades, theirs of the bids or asks since arrival."""
    if found.quote is None or found.terms.trail is None or found.shared or (found.a is None) == (found.b is None):
        return False
    theirs = _reached(found, [found.terms.pays(quote) for quote in found.life])
    return (_ours_reached(found), theirs) == (found.a is not None, found.b is not None)


def _ours_reached(found: Difference) -> bool:
    known = [quote for quote in found.tape.of_symbol[found.order.symbol] if quote.at < found.order.at][-1]
    return _reached(found, [known.last, *(quote.last for quote in found.life)])


def _reached(found: Difference, prices: Sequence[Decimal]) -> bool:
    """True if one of the prices, except the first, lies a trail behind the best before it."""
    trail, best = found.terms.trail or Decimal(0), prices[0]
    for price in prices[1:]:
        if price >= best + trail if found.terms.buys else price <= best - trail:
            return True
        best = min(best, price) if found.terms.buys else max(best, price)
    return False


def _rest_waits(found: Difference) -> bool:
    """They leave the rest open for good, and do not find it when it is canceled."""
    if not found.shared or len(found.theirs.fills) > len(found.shared) or found.theirs.status != "open":
        return False
    on_arrival = found.terms.kind == "stop" and found.shared[0].quote == found.life[0].number
    return (found.terms.kind == "market" or on_arrival) and found.filled < found.terms.qty and _took_all(found)


def _took_all(found: Difference) -> bool:
    last = found.shared[-1]
    return last.qty == found.terms.size(found.tape.quotes[last.quote])


def _stays_triggered(found: Difference) -> bool:
    """Its first part has filled. The rest would have to be triggered again."""
    stops = found.terms.kind in {"stop", "trailing_stop"}
    return stops and bool(found.shared) and found.a is not None and found.b is None and _took_all(found)


def _size_is_shared(found: Difference) -> bool:
    if found.quote is None or found.b is None:
        return False
    took, size = found.a.qty if found.a else Decimal(0), found.terms.size(found.quote)
    left = size - found.consumed_by_others
    wanted = found.terms.qty - found.filled
    if found.terms.time_in_force == "fok":
        return not took and found.b.qty == wanted > left
    return took == left < min(wanted, size) == found.b.qty


def _fills_move_nothing(found: Difference) -> bool:
    """Others filled there at prices behind the quote's, and for the rest of it theirs take that for the market."""
    missed = found.b is None or found.by_change
    if found.quote is None or (found.a is None) == missed:
        return False
    if found.terms.trail is not None:
        return _trail_was_moved(found)
    at, terms, moved = found.terms.pays(found.quote), found.terms, found.moved(found.quote)
    if found.a is not None:
        stale = found.stale is not None and not terms.acts(found.stale)
        return terms.within(at) and (stale or any(not terms.within(price) for price in moved))
    return not found.shared and _stop_was_moved(found)


def _stop_was_moved(found: Difference) -> bool:
    """A stop that no quote reached was reached by such a price. One with a limit may have been reached before."""
    seen = [(found.terms_at(quote), quote) for quote in found.life]
    if any(terms.reached(terms.pays(quote)) for terms, quote in seen):
        return False
    return any(terms.reached(price) for terms, quote in seen for price in found.moved(quote))


def _trail_was_moved(found: Difference) -> bool:
    """Following a moved market, or reached by one, theirs does what it did."""
    if found.shared or _ours_reached(found) != (found.a is not None):
        return False
    *before, last = [(found.terms.pays(quote), found.moved(quote)) for quote in found.life]
    for best in ([at for at, _ in before], [moved[-1] if moved else at for at, moved in before]):
        for price in (last[0], *last[1]):
            if _reached(found, [*best, price]) == (found.b is not None):
                return True
    return False


def _exits_wait(found: Difference) -> bool:
    """It was reached already on the quote that filled the entry."""
    entry = found.tape.theirs[found.order.id].fills
    return bool(found.leg and found.b and found.a is None and entry and entry[-1].quote == found.b.quote)


def _day_ends(found: Difference) -> bool:
    ended = found.quote is not None and found.quote.at >= found.order.ends_at
    return ended and found.order.time_in_force == "day" and found.a is None and found.ours.status == "expired"


def _gtc_ends(found: Difference) -> bool:
    over = found.quote is None or found.quote.at >= found.came + timedelta(days=90)
    return over and found.terms.time_in_force == "gtc" and found.a is None and found.ours.status == "expired"


def _change_waits(found: Difference) -> bool:
    """They fill it on the newest quote before its change."""
    if found.quote is None or found.b is None or found.a is not None:
        return False
    return any(
        found.before(change) == found.quote and found.terms.changed(change).within(found.b.price)
        for change in found.changes
        if change.limit is not None
    )


def _change_triggers(found: Difference) -> bool:
    """They refuse to move a stop into the market, and go on with the old one."""
    if found.quote is None or found.terms.kind != "stop":
        return False
    changes = [change for change in found.changes if change.at < found.quote.at and change.stop is not None]
    if not any(found.terms.changed(change).reached(found.terms.pays(found.before(change))) for change in changes):
        return False
    if found.a is not None and found.b is not None:  # both stops are reached at once, but not of as many shares
        return found.a.price == found.b.price
    return found.b is not None or found.terms.reached(found.quote.last)


RULES = (
    Rule(
        "better-of-limit-and-quote",
        "a limit that was marketable when it came fills at the quote where that is better; theirs at its limit",
        _better_than_limit,
    ),
    Rule(
        "a-limit-that-rests-gets-its-limit",
        "a limit that was outside of the quote when it came fills at its limit; theirs, on its arrival, at the quote",
        _limit_that_rests,
    ),
    Rule(
        "a-stop-is-no-price",
        "a stop-limit order fills at the quote, once it is triggered; theirs at its stop, where nobody sold",
        _stop_is_no_price,
    ),
    Rule(
        "exits-need-a-newer-quote",
        "the exits of a bracket work from a later quote than the one that filled their entry; theirs at once",
        _exits_wait,
    ),
    Rule(
        "a-change-needs-a-newer-quote",
        "a replaced order fills on a later quote; theirs at once, on the newest one",
        _change_waits,
    ),
    Rule(
        "a-day-order-ends-with-its-day",
        "no quote fills it after its session; theirs still fills on the first one of the next",
        _day_ends,
    ),
    Rule(
        "a-gtc-order-ends-after-90-days",
        "no quote fills it after that; theirs waits for ever",
        _gtc_ends,
    ),
    Rule(
        "the-last-trade-triggers",
        "a stop is reached by the last trade; theirs by the ask or the bid",
        _last_triggers,
    ),
    Rule(
        "a-trail-follows-last-trades",
        "a trailing stop follows the best last trade since its acceptance; theirs the ask or bid since its arrival",
        _trail_from_acceptance,
    ),
    Rule(
        "a-stop-in-the-market-triggers",
        "a stop that was replaced by one in the market triggers; theirs stays what it was",
        _change_triggers,
    ),
    Rule(
        "the-rest-waits-for-the-next-quote",
        "what a quote had no shares for waits for the next one; theirs, filled as it arrived, stays open for good",
        _rest_waits,
    ),
    Rule(
        "a-stop-stays-triggered",
        "what is left of a triggered stop is a market order; theirs waits to be reached again",
        _stays_triggered,
    ),
    Rule(
        "a-quote-s-size-is-shared",
        "our orders share the size of a quote; each of theirs may take all of it",
        _size_is_shared,
    ),
    Rule(
        "our-fills-move-no-market",
        "orders see the quote, whatever else fills on it; theirs see the price of the last fill",
        _fills_move_nothing,
    ),
)


def rule_of(found: Difference) -> Rule | None:
    """The rule that the difference falls under. None does where our own fill is not at the market's price."""
    if found.quote is not None and found.a is not None and found.a.price != found.our_price:
        return None
    return next((rule for rule in RULES if rule.knows(found)), None)


@dataclass(frozen=True)
class Comparison:
    """Rule → its orders that differ, and those that fall under none."""

    known: dict[str, list[Difference]]
    left_over: list[Difference]


def compare(tape: Tape) -> Comparison:
    """Orders of one order_group fall under the rule of their earliest difference, from which the others follow."""
    known: dict[str, list[Difference]] = {rule.name: [] for rule in RULES}
    left_over: list[Difference] = []
    for order_group in order_groups(differences(tape)):
        rule = _first_rule(order_group)
        (left_over if rule is None else known[rule.name]).extend(order_group)
    return Comparison(known, left_over)


def _first_rule(order_group: Sequence[Difference]) -> Rule | None:
    first = [each for each in order_group if each.quote == order_group[0].quote]
    return next((rule for rule in map(rule_of, first) if rule is not None), None)


def table(comparison: Comparison) -> str:
    counts = {rule.name: len(comparison.known[rule.name]) for rule in RULES}
    lines = [f"{counts[rule.name]:>6}  {rule.name:<34}{rule.says}" for rule in RULES]
    return "\n".join([*lines, f"{len(comparison.left_over):>6}  left over"])
