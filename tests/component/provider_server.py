"""What the tests of the network providers share."""

from services.marketdata.providers.provider import Listed
from shared.contracts.instruments import AssetClass

SPY = Listed("SPY", "XNYS", AssetClass.US_EQUITY, "USD")
BRK = Listed("BRK.B", "XNYS", AssetClass.US_EQUITY, "USD")
VOD = Listed("VOD", "XLON", AssetClass.EQUITY, "GBP")
BTC = Listed("BTC/USD", "24/7", AssetClass.CRYPTO, "USD")
EUR = Listed("EUR/USD", "24/7", AssetClass.CURRENCY_PAIR, "USD")
