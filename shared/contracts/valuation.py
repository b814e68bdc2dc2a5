"""The values of accounts that valuation publishes."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.contracts.base import Event, Number


class AccountValue(BaseModel):
    """An account's value in its currency. ``equity = cash + market_value``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account_id: UUID
    cash: Number
    market_value: Number
    equity: Number
    unrealized_pl: Number


class AccountsValued(Event):
    """The accounts whose value a price batch or a fill changed."""

    service: ClassVar[str] = "valuation"

    values: tuple[AccountValue, ...]
    at: AwareDatetime
