"""Close the positions of a strategy, and cancel its open orders, or just its entries."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid5

from services.strategy.persistence import decisions, holdings, strategies
from services.strategy.persistence.decisions import DecisionRow
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.judgement import Outcome
from services.strategy.strategies.ordering import order_to_close
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import CancelOrder
from shared.money import ZERO


def cancel_entries(uow: UnitOfWork, paused: Sequence[StrategyRow]) -> int:
    """Cancel the open orders of strategies that would open or enlarge a position. Returns their number. Exits stay."""
    if not paused:
        return 0
    of = {row.id: row for row in paused}
    held = holdings.held(uow.connection, paused)
    number = 0
    for (strategy_id, symbol), ordered in holdings.ordered(uow.connection, paused, uow.now).items():
        position = held[strategy_id, symbol].qty if (strategy_id, symbol) in held else ZERO
        for order_id in ordered.entries:
            closes = position < 0 if order_id in ordered.buys else position > 0
            if not closes:
                account_id = of[strategy_id].account_id
                uow.publish(CancelOrder(account_id=account_id, order_id=order_id, requested_at=uow.now))
                number += 1
    return number


def flatten(uow: UnitOfWork, strategy: StrategyRow, cause: UUID) -> int:
    """Cancel the strategy's orders, then sell or buy back what it holds at the market. Returns the number of orders.

    ``cause`` is the request or run: one cause sends its orders once. Symbols that the strategy had in an earlier
    version are among them.
    """
    strategy = replace(strategy, symbols=strategies.symbols_ever(uow.connection, strategy))
    ordered = holdings.ordered(uow.connection, [strategy], uow.now)
    for each in ordered.values():
        for order_id in (*each.entries, *each.exits):
            uow.publish(CancelOrder(account_id=strategy.account_id, order_id=order_id, requested_at=uow.now))
    rows = []
    for (_, symbol), held in holdings.held(uow.connection, [strategy]).items():
        order = order_to_close(
            symbol,
            held.qty,
            account_id=strategy.account_id,
            order_id=uuid5(strategy.id, f"{symbol}/flatten/{cause}"),
            client_order_id=f"{strategy.id}-flatten-{cause}-{symbol}",
            strategy_id=strategy.id,
            at=uow.now,
        )
        uow.publish(order, message_id=order.order_id)
        rows.append(
            DecisionRow(
                strategy_id=strategy.id,
                symbol=symbol,
                version=strategy.version,
                action="exit",
                outcome=Outcome.ORDERED,
                reason="The strategy's positions are closed on request or by a protection.",
                position=held.qty,
                side=order.side,
                qty=abs(held.qty),
                order_id=order.order_id,
            )
        )
    if rows:
        decisions.add(uow.connection, cause, rows, uow.now)
    return len(rows)
