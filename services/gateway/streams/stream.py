"""A stream: the news that one reader has not taken yet."""

import asyncio
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from services.gateway.streams.events import CHANGES, HALTS, VALUE, Part
from shared.contracts.base import Message
from shared.contracts.prices import PricesUpdated
from shared.contracts.valuation import AccountsValued


@dataclass(eq=False)
class Stream:
    """The parts that changed for this account, and the newest price of each symbol, since the last ``take``.

    News that arrive faster than they are taken replace each other, so a slow reader needs no queue.
    """

    account_id: UUID
    changed: set[Part] = field(default_factory=set)
    prices: dict[str, dict[str, Any]] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_message(self, message: type[Message], body: dict[str, Any]) -> None:
        if message is PricesUpdated:
            self.prices |= {price["symbol"]: price for price in body["prices"]}
            self.news.set()
        elif message in HALTS:
            self.mark({Part.HALTS})
        elif message is AccountsValued:
            if any(UUID(value["account_id"]) == self.account_id for value in body["values"]):
                self.mark(VALUE)
        elif message in CHANGES and UUID(body["account_id"]) == self.account_id:
            self.mark(CHANGES[message])

    def mark(self, parts: AbstractSet[Part]) -> None:
        """Mark parts as changed."""
        self.changed |= parts
        self.news.set()

    async def wait(self, seconds: float) -> None:
        """Wait for news, for at most so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.news.wait(), seconds)

    def take(self) -> tuple[set[Part], list[dict[str, Any]]]:
        """Return the changed parts and the new prices, and forget them."""
        changed, prices = self.changed, list(self.prices.values())
        self.changed, self.prices = set(), {}
        self.news.clear()
        return changed, prices
