"""The order that a decision becomes."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from services.strategy.strategies.decision import Decision
from services.strategy.strategies.sizing import Sized
from shared.contracts.orders import OrderClass, OrderType, Side, StopLoss, SubmitOrder, TakeProfit, TimeInForce


def order_for(
    decision: Decision,
    sized: Sized,
    side: Side,
    *,
    account_id: UUID,
    order_id: UUID,
    client_order_id: str,
    strategy_id: UUID | None,
    at: datetime,
    opens: bool = True,
) -> SubmitOrder:
    """A market order, or a limit order where the decision has a limit price, with the decision's exits as a bracket.

    Orders of whole shares are good till canceled, so that the exits outlive the day. Fractions trade in day orders
    without exits, since the exchange takes no others (Alpaca: fractional trading). An order that only closes has none.
    """
    whole = sized.qty % 1 == 0
    take_profit = TakeProfit(limit_price=decision.take_profit) if decision.take_profit and whole and opens else None
    stop_loss = StopLoss(stop_price=decision.stop_loss) if decision.stop_loss and whole and opens else None
    exits = (take_profit is not None) + (stop_loss is not None)
    return SubmitOrder(
        account_id=account_id,
        order_id=order_id,
        client_order_id=client_order_id,
        symbol=decision.symbol,
        side=side,
        type=OrderType.MARKET if decision.limit_price is None else OrderType.LIMIT,
        limit_price=decision.limit_price,
        time_in_force=TimeInForce.GTC if whole else TimeInForce.DAY,
        qty=sized.qty,
        order_class=(OrderClass.SIMPLE, OrderClass.OTO, OrderClass.BRACKET)[exits],
        take_profit=take_profit,
        stop_loss=stop_loss,
        submitted_at=at,
        strategy_id=strategy_id,
    )


def order_to_close(
    symbol: str,
    qty: Decimal,
    *,
    account_id: UUID,
    order_id: UUID,
    client_order_id: str,
    strategy_id: UUID,
    at: datetime,
) -> SubmitOrder:
    """A market order of the day for the opposite of the shares."""
    return SubmitOrder(
        account_id=account_id,
        order_id=order_id,
        client_order_id=client_order_id,
        symbol=symbol,
        side=Side.SELL if qty > 0 else Side.BUY,
        type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY,
        qty=abs(qty),
        submitted_at=at,
        strategy_id=strategy_id,
    )
