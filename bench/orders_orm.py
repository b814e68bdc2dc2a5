"""The reference: orders are filled by an ORM, each in a transaction of its own, and the same rows are written.

It is as such code is usually written, and changes only where the rows do.
"""

import json
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import Engine, Identity, LargeBinary, MetaData, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

CENT = Decimal("0.01")


class Base(DeclarativeBase):
    metadata = MetaData(schema="orders")


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    cash: Mapped[Decimal]
    reserved: Mapped[Decimal]
    sequence: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    symbol: Mapped[str]
    side: Mapped[str]
    qty: Mapped[Decimal]
    status: Mapped[str]
    filled_qty: Mapped[Decimal]
    filled_avg_price: Mapped[Decimal | None]
    fills: Mapped[int]
    reserved: Mapped[Decimal]
    held_for_orders: Mapped[Decimal]
    submitted_at: Mapped[datetime]
    filled_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class Fill(Base):
    __tablename__ = "fills"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[UUID]
    symbol: Mapped[str]
    side: Mapped[str]
    qty: Mapped[Decimal]
    price: Mapped[Decimal]
    amount: Mapped[Decimal]
    filled_at: Mapped[datetime]
    price_sequence: Mapped[int]
    quoted_at: Mapped[datetime]
    bid: Mapped[Decimal]
    ask: Mapped[Decimal]
    last: Mapped[Decimal]
    realized_pl: Mapped[Decimal | None]


class Lot(Base):
    __tablename__ = "lots"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    fill_id: Mapped[UUID] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime]
    qty: Mapped[Decimal]
    cost: Mapped[Decimal]


class Position(Base):
    __tablename__ = "positions"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    qty: Mapped[Decimal]
    cost: Mapped[Decimal]
    updated_at: Mapped[datetime]


class RoundTrip(Base):
    __tablename__ = "round_trips"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    symbol: Mapped[str]
    qty: Mapped[Decimal]
    entry_fill_id: Mapped[UUID]
    exit_fill_id: Mapped[UUID]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime]
    cost: Mapped[Decimal]
    proceeds: Mapped[Decimal]
    realized_pl: Mapped[Decimal]


class Trade(Base):
    __tablename__ = "trades"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int]
    symbol: Mapped[str]
    side: Mapped[str]
    qty: Mapped[Decimal]
    avg_price: Mapped[Decimal]
    currency: Mapped[str]
    fees: Mapped[Decimal]
    realized_pl: Mapped[Decimal | None]
    submitted_at: Mapped[datetime]
    first_fill_at: Mapped[datetime]
    completed_at: Mapped[datetime]


class Entry(Base):
    __tablename__ = "ledger"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    reference: Mapped[UUID]
    symbol: Mapped[str]
    qty: Mapped[Decimal]
    cash: Mapped[Decimal]
    cost: Mapped[Decimal]
    realized: Mapped[Decimal]


class Outbox(Base):
    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    message_id: Mapped[UUID]
    exchange: Mapped[str]
    routing_key: Mapped[str]
    key: Mapped[str]
    shard: Mapped[int]
    mandatory: Mapped[bool]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    priority: Mapped[int]


def fill(engine: Engine, account_id: UUID, order_id: UUID, quote: dict[str, Decimal], at: datetime) -> None:
    """Fill the order whole on the quote (bid, ask, last), in a transaction of its own."""
    with Session(engine) as session, session.begin():
        account = session.get_one(Account, account_id, with_for_update=True)
        order = session.get_one(Order, (account_id, order_id), with_for_update=True)
        buys = order.side == "buy"
        price = quote["ask"] if buys else quote["bid"]
        amount = (order.qty * price).quantize(CENT)
        made = Fill(
            account_id=account_id,
            order_id=order_id,
            number=1,
            id=uuid4(),
            symbol=order.symbol,
            side=order.side,
            qty=order.qty,
            price=price,
            amount=amount,
            filled_at=at,
            price_sequence=1,
            quoted_at=at,
            **quote,
        )
        session.add(made)
        position = session.get(Position, (account_id, order.symbol))
        if position is None:
            position = Position(
                account_id=account_id, symbol=order.symbol, qty=Decimal(0), cost=Decimal(0), updated_at=at
            )
            session.add(position)
        cost, realized = (_buy if buys else _sell)(session, made)
        position.qty += order.qty if buys else -order.qty
        position.cost += cost
        position.updated_at = at
        account.cash += -amount if buys else amount
        account.reserved -= order.reserved
        account.sequence += 2
        order.status, order.filled_qty, order.filled_avg_price = "filled", order.qty, price
        order.fills, order.reserved, order.held_for_orders = 1, Decimal(0), Decimal(0)
        order.filled_at = order.updated_at = at
        session.add(
            Entry(
                account_id=account_id,
                at=at,
                kind="fill",
                reference=made.id,
                symbol=order.symbol,
                qty=order.qty if buys else -order.qty,
                cash=-amount if buys else amount,
                cost=cost,
                realized=realized,
            )
        )
        made.realized_pl = None if buys else realized
        session.add(
            Trade(
                account_id=account_id,
                order_id=order_id,
                generation=1,
                symbol=order.symbol,
                side=order.side,
                qty=order.qty,
                avg_price=price,
                currency="USD",
                fees=Decimal(0),
                realized_pl=made.realized_pl,
                submitted_at=order.submitted_at,
                first_fill_at=at,
                completed_at=at,
            )
        )
        for event in ("order_filled", "position_changed"):
            session.add(_message(event, made, account, position))


def _buy(session: Session, made: Fill) -> tuple[Decimal, Decimal]:
    session.add(
        Lot(
            account_id=made.account_id,
            symbol=made.symbol,
            fill_id=made.id,
            opened_at=made.filled_at,
            qty=made.qty,
            cost=made.amount,
        )
    )
    return made.amount, Decimal(0)


def _sell(session: Session, made: Fill) -> tuple[Decimal, Decimal]:
    open_lots = (
        select(Lot)
        .where(Lot.account_id == made.account_id, Lot.symbol == made.symbol, Lot.qty > 0)
        .order_by(Lot.opened_at, Lot.fill_id)
    )
    left, cost = made.qty, Decimal(0)
    for lot in session.scalars(open_lots):
        taken = min(lot.qty, left)
        if not taken:
            break
        part = (lot.cost * taken / lot.qty).quantize(CENT)
        proceeds = (made.amount * taken / made.qty).quantize(CENT)
        session.add(
            RoundTrip(
                account_id=made.account_id,
                id=uuid4(),
                symbol=made.symbol,
                qty=taken,
                entry_fill_id=lot.fill_id,
                exit_fill_id=made.id,
                opened_at=lot.opened_at,
                closed_at=made.filled_at,
                cost=part,
                proceeds=proceeds,
                realized_pl=proceeds - part,
            )
        )
        lot.qty, lot.cost = lot.qty - taken, lot.cost - part
        left, cost = left - taken, cost + part
    return -cost, made.amount - cost


def _message(event: str, made: Fill, account: Account, position: Position) -> Outbox:
    body = {
        "account_id": str(made.account_id),
        "sequence": account.sequence,
        "order_id": str(made.order_id),
        "fill_id": str(made.id),
        "symbol": made.symbol,
        "qty": str(made.qty),
        "price": str(made.price),
        "position_qty": str(position.qty),
        "cash": str(account.cash),
    }
    return Outbox(
        message_id=uuid4(),
        exchange="paperprofit.events",
        routing_key=f"orders.{event}.v1",
        key=str(made.account_id),
        shard=made.account_id.int % 16,
        mandatory=False,
        body=json.dumps(body).encode(),
        priority=0,
    )
