"""What ``/api`` takes and answers about accounts: how they trade, how they are funded, and their books."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, PlainSerializer, field_validator

from services.gateway.http.pagination import FROM_CURSOR, Moment, Page, PageQuery, Query, StretchQuery
from services.gateway.operations.requests import Number as RowNumber
from services.gateway.operations.requests import Word
from services.gateway.operations.schemas import Answer
from services.gateway.trading.requests import Printable
from shared.contracts.accounts import AccountSettings
from shared.contracts.base import Number, Symbol
from shared.contracts.currencies import Currency
from shared.money import ZERO, plain

MAX_CASH = Decimal(1_000_000_000_000)
#: As a person writes it: no exponent, no zeros at the end.
Figure = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json")]
Cash = Annotated[Number, Field(ge=0, le=MAX_CASH, decimal_places=2)]
Generation = Annotated[int, Field(ge=1, le=2**31 - 1)]


class NewAccount(Query):
    """An account to open, in its base currency, and what its key may do."""

    name: Printable = Field(min_length=1, max_length=100)
    cash: Cash
    currency: Currency = "USD"
    settings: AccountSettings = AccountSettings()
    scopes: tuple[Literal["trade", "operate"], ...] = Field(default=("trade",), min_length=1, max_length=2)


class Transfer(Query):
    """Cash to pay in, or out where ``amount`` is negative. Repeated with its ``transfer_id`` it is booked once."""

    amount: Annotated[Number, Field(ge=-MAX_CASH, le=MAX_CASH, decimal_places=2)]
    transfer_id: UUID | None = None

    @field_validator("amount")
    @classmethod
    def _is_something(cls, amount: Decimal) -> Decimal:
        if amount == ZERO:
            raise ValueError("is zero")
        return amount


class Reset(Query):
    """The cash to begin again with."""

    cash: Cash


class AccountQuery(PageQuery):
    cursor: Annotated[tuple[Moment, UUID], *FROM_CURSOR] | None = None


class LedgerQuery(StretchQuery):
    cursor: Annotated[tuple[RowNumber], *FROM_CURSOR] | None = None
    kind: Word | None = None
    symbol: Symbol | None = None
    generation: Generation | None = None


class TradeQuery(StretchQuery):
    cursor: Annotated[tuple[Moment, UUID], *FROM_CURSOR] | None = None
    symbol: Symbol | None = None
    side: Literal["long", "short"] | None = None
    strategy: UUID | None = Field(default=None, description="That opened or closed it.")
    generation: Generation | None = None


class AccountOpened(Answer):
    """The account and its key. The secret is told here and nowhere else."""

    account_id: UUID
    name: str
    currency: str
    key_id: str
    secret_key: str
    scopes: list[str]


class AccountItem(Answer):
    """An account. ``generation`` counts how often it began; ``cash`` includes what open orders have reserved."""

    id: UUID
    number: str
    name: str
    currency: str
    status: str
    cash: Figure
    generation: int
    created_at: datetime


class AccountPage(Page[AccountItem]):
    """Accounts, the newest first."""


class Transferred(Answer):
    """A transfer; ``booked_at`` is null while it is on its way."""

    transfer_id: UUID
    amount: Figure
    booked_at: datetime | None


class BegunAgain(Answer):
    """A reset; ``generation`` and ``begun_at`` are null while it is on its way."""

    reset_id: UUID
    cash: Figure
    generation: int | None
    begun_at: datetime | None


class LedgerEntry(Answer):
    """What one transfer or fill did. Cash + cost + fee + interest = realized + dividend + capital.

    ``reference`` is the transfer, reset or fill. ``cost`` is what was paid for the shares held, negative for short
    ones.
    """

    id: int
    generation: int
    at: datetime
    kind: str
    reference: UUID
    symbol: str | None
    qty: Figure
    cash: Figure
    cost: Figure
    fee: Figure
    interest: Figure
    realized: Figure
    dividend: Figure
    capital: Figure


class LedgerPage(Page[LedgerEntry]):
    """Entries of the ledger, the newest first."""


class Trade(Answer):
    """A round trip: shares that were bought and sold, or sold short and bought back. ``realized_pl`` is before fees."""

    id: UUID
    generation: int
    symbol: str
    side: str
    qty: Figure
    opened_at: datetime
    closed_at: datetime
    cost: Figure
    proceeds: Figure
    realized_pl: Figure
    entry_fill_id: UUID
    exit_fill_id: UUID
    entry_strategy_id: UUID | None
    strategy_id: UUID | None


class TradePage(Page[Trade]):
    """Round trips, the latest to close first."""
