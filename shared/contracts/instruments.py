"""The classes of instruments."""

from enum import StrEnum


class AssetClass(StrEnum):
    """The class of an instrument. Alpaca has the first two. A pair of currencies is ``currency_pair``."""

    US_EQUITY = "us_equity"
    CRYPTO = "crypto"
    CURRENCY_PAIR = "currency_pair"
    #: Equities of exchanges outside the United States.
    EQUITY = "equity"
