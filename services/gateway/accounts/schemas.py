"""Requests and responses of ``/api/account`` and ``/api/accounts``: settings, funding and books."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, PlainSerializer, field_validator

from services.gateway.http.auth import SCOPES
from services.gateway.http.errors import Invalid
from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, StretchQuery, TimeCursor
from services.gateway.http.schemas import Answer, Moment, Query, Word
from shared.contracts.accounts import MAX_CASH, AccountSettings, Cash
from shared.contracts.base import RowNumber, Symbol
from shared.contracts.currencies import Currency
from shared.contracts.orders import Side
from shared.contracts.written import Bounded, Printable
from shared.money import ZERO, plain

#: A number in JSON: text without exponent or trailing zeros.
Figure = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json")]
Generation = Annotated[int, Bounded(ge=1, le=2**31 - 1)]
Name = Annotated[Printable, Field(min_length=1, max_length=100)]
Scopes = Annotated[
    tuple[Literal["read", "trade", "fund", "operate", "admin"], ...], Field(min_length=1, max_length=len(SCOPES))
]


class NewAccount(Query):
    """The account to open: its initial cash in its base currency, its settings, and the scopes of its key."""

    name: Name
    cash: Cash
    currency: Currency = "USD"
    settings: AccountSettings = AccountSettings()
    scopes: Scopes = ("trade",)


class Transfer(Query):
    """A deposit, or a withdrawal if ``amount`` is negative. A repeated ``transfer_id`` is booked once."""

    amount: Annotated[Decimal, Bounded(ge=-MAX_CASH, le=MAX_CASH, decimal_places=2)]
    transfer_id: UUID | None = None

    @field_validator("amount")
    @classmethod
    def _is_something(cls, amount: Decimal) -> Decimal:
        if amount == ZERO:
            raise ValueError("must not be zero")
        return amount


class Reset(Query):
    """The account's cash after the reset."""

    cash: Cash


class NewKey(Query):
    """The name and the scopes of a new key."""

    name: Name
    scopes: Scopes


class KeyName(Query):
    """The new name of a key."""

    name: Name


class KeyQuery(PageQuery):
    cursor: Annotated[tuple[Moment, Word], *FROM_CURSOR] | None = None


class AccountQuery(PageQuery):
    cursor: TimeCursor | None = None


class BookQuery(StretchQuery):
    """``format`` is ``json`` or ``csv``. Without it the header ``Accept`` decides. A CSV has all rows at once."""

    format: Literal["json", "csv"] | None = None

    def filters(self) -> dict[str, Any]:
        """Return the filters that the request sets."""
        return {name: value for name, value in super().filters().items() if name != "format"}

    def check_whole(self) -> None:
        """Raise Invalid if a part of the rows is asked for."""
        for name in ("limit", "cursor"):
            if name in self.model_fields_set:
                raise Invalid(f"{name}: a CSV has all rows; leave {name} out, or narrow from and to", field=name)


class LedgerQuery(BookQuery):
    cursor: Annotated[tuple[RowNumber], *FROM_CURSOR] | None = None
    kind: Word | None = None
    symbol: Symbol | None = None
    generation: Generation | None = None


class TradeQuery(BookQuery):
    """``from`` and ``to`` limit the time of completion."""

    cursor: TimeCursor | None = None
    symbol: Symbol | None = None
    side: Side | None = None
    strategy: UUID | None = None
    generation: Generation | None = None


class RoundTripQuery(StretchQuery):
    """``from`` and ``to`` limit the time of closing."""

    cursor: TimeCursor | None = None
    symbol: Symbol | None = None
    side: Literal["long", "short"] | None = None
    strategy: UUID | None = Field(default=None, description="The strategy that opened or closed it.")
    generation: Generation | None = None


class DividendQuery(PageQuery):
    cursor: TimeCursor | None = None
    symbol: Symbol | None = None
    generation: Generation | None = None
    paid: bool | None = Field(default=None, description="Whether it has been paid.")


class AccountOpened(Answer):
    """The account and its key. The secret is shown only here."""

    account_id: UUID
    name: str
    currency: str
    key_id: str
    secret_key: str
    scopes: list[str]


class KeyItem(Answer):
    """A key. ``last_used_at`` is at most a minute late. A revoked key stays listed, and its id is never valid again."""

    key_id: str
    name: str
    account_id: UUID
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeyPage(Page[KeyItem]):
    """Keys, the newest first."""


class KeySecret(Answer):
    """A key and its new secret. The secret is shown only here."""

    key_id: str
    secret_key: str
    name: str
    account_id: UUID
    scopes: list[str]


class AccountItem(Answer):
    """An account. ``generation`` is 1, plus one for each reset. ``cash`` includes the reserves of open orders."""

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
    """A transfer. ``booked_at`` is null while it is pending."""

    transfer_id: UUID
    amount: Figure
    booked_at: datetime | None


class ResetResult(Answer):
    """A reset. ``generation`` and ``reset_at`` are null while it is pending."""

    reset_id: UUID
    cash: Figure
    generation: int | None
    reset_at: datetime | None


class LedgerEntry(Answer):
    """An entry of a transfer or fill. Cash + cost + fee + interest = realized + dividend + capital.

    ``reference`` is the id of the transfer, reset or fill. ``cost`` is the price paid for the shares held, negative for
    short ones.
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
    """A completed order: one that has ended with a filled quantity.

    ``avg_price`` is in ``currency``, the instrument's. ``fees`` and ``realized_pl`` are in the account's currency.
    ``realized_pl`` is null if the order closed nothing.
    """

    order_id: UUID
    generation: int
    symbol: str
    side: str
    qty: Figure
    avg_price: Figure
    currency: str
    fees: Figure
    realized_pl: Figure | None
    strategy_id: UUID | None
    submitted_at: datetime
    first_fill_at: datetime
    completed_at: datetime


class TradePage(Page[Trade]):
    """Trades, the last completed first."""


class RoundTrip(Answer):
    """Shares that were bought and sold, or sold short and bought back. ``realized_pl`` is before fees."""

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


class RoundTripPage(Page[RoundTrip]):
    """Round trips, the last closed first."""


class Dividend(Answer):
    """A dividend on the shares held at ``ex_at``, which is paid at ``pay_at``. ``qty`` is negative for short ones.

    ``amount`` is the dividend of a share in the instrument's currency. ``cash`` is in the account's currency, and null
    until it is paid. A dividend counts in the account's equity once it is paid.
    """

    action_id: UUID
    generation: int
    symbol: str
    qty: Figure
    amount: Figure
    ex_at: datetime
    pay_at: datetime
    paid_at: datetime | None
    cash: Figure | None


class DividendPage(Page[Dividend]):
    """Dividends, the last ex-date first."""
