"""A provider that finds the instruments that a test puts into it."""

import threading

from services.marketdata.providers.provider import Found, Part, Provider, Traits
from services.marketdata.usecases.fetch_prices import Order
from shared.contracts.instruments import AssetClass

CLASSES = frozenset(AssetClass)
SPY = Found("SPY", "SPDR S&P 500", "XNYS", "USD", AssetClass.US_EQUITY, "NYSEArca")
VOD = Found("VOD", "Vodafone Group Plc", "XLON", "GBP", AssetClass.EQUITY, "LSE")
BTC = Found("BTC/USD", "Bitcoin", "24/7", "USD", AssetClass.CRYPTO, "CCC")


class Directory(Provider):
    """A provider that finds what the test put into it. ``error`` is raised, and ``answers`` holds it back."""

    def __init__(self, name: str, *found: Found, classes: frozenset[AssetClass] = CLASSES) -> None:
        self.traits = Traits(name=name, parts=frozenset({Part.SEARCH}), asset_classes=classes)  # type: ignore[misc]
        self.found = found
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.holds = threading.Event()
        self.holds.set()

    def search(self, words: str, limit: int) -> list[Found]:
        self.asked.append(words)
        assert self.holds.wait(20)
        if self.error is not None:
            raise self.error
        sought = words.casefold()
        return [each for each in self.found if sought in each.symbol.casefold() or sought in each.name.casefold()][
            :limit
        ]


def of(*providers: Provider) -> Order:
    """The same providers for every class."""
    return {each: list(providers) for each in AssetClass}
