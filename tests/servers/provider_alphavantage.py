"""Alpha Vantage's answers, of the shapes in its documentation."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.servers.provider_http import Asked, ProviderServer, Reply

KEY = "DEMOKEY123456789"
DAILY_LIMIT = (
    f"We have detected your API key as {KEY} and our standard API rate limit is 25 requests per day. Please subscribe "
    "to any of the premium plans at https://www.alphavantage.co/premium/ to instantly remove all daily rate limits."
)
BURST_LIMIT = (
    "Thank you for using Alpha Vantage! Please consider spreading out your free API requests more sparingly (1 request "
    "per second). You may subscribe to any of the premium plans at https://www.alphavantage.co/premium/ to lift the "
    "free key rate limit (25 requests per day), raise the per-second burst limit, and instantly unlock all premium "
    "endpoints"
)
MINUTE_LIMIT = (
    "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls per day. "
    "Please visit https://www.alphavantage.co/premium/ if you would like to target a higher API call frequency."
)
PREMIUM = (
    "Thank you for using Alpha Vantage! This is a premium endpoint. You may subscribe to any of the premium plans at "
    "https://www.alphavantage.co/premium/ to instantly unlock all premium endpoints"
)
BAD_KEY = "the parameter apikey is invalid or missing. Please claim your free API key on (https://www.alphavantage.co)."


def global_quote(symbol: str, price: str, day: str, **other: str) -> dict[str, Any]:
    return {
        "Global Quote": {
            "01. symbol": symbol,
            "02. open": price,
            "03. high": price,
            "04. low": price,
            "05. price": price,
            "06. volume": "3456789",
            "07. latest trading day": day,
            "08. previous close": price,
            "09. change": "0.0000",
            "10. change percent": "0.0000%",
            **other,
        }
    }


def exchange_rate(base: str, quoted: str, rate: str, at: str, bid: str = "-", ask: str = "-") -> dict[str, Any]:
    return {
        "Realtime Currency Exchange Rate": {
            "1. From_Currency Code": base,
            "2. From_Currency Name": base,
            "3. To_Currency Code": quoted,
            "4. To_Currency Name": quoted,
            "5. Exchange Rate": rate,
            "6. Last Refreshed": at,
            "7. Time Zone": "UTC",
            "8. Bid Price": bid,
            "9. Ask Price": ask,
        }
    }


def daily(symbol: str, rows: Mapping[str, Sequence[str]], name: str = "Time Series (Daily)") -> dict[str, Any]:
    columns = ("1. open", "2. high", "3. low", "4. close", "5. volume")
    return {
        "Meta Data": {
            "1. Information": "Prices (open, high, low, close) and Volumes",
            "2. Symbol": symbol,
            "3. Last Refreshed": max(rows, default=""),
            "4. Output Size": "Full size",
            "5. Time Zone": "US/Eastern",
        },
        name: {start: dict(zip(columns, row, strict=True)) for start, row in rows.items()},
    }


class AlphaVantageServer(ProviderServer):
    """Alpha Vantage. ``answers`` are by function and symbol, such as ``GLOBAL_QUOTE IBM``."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        super().__init__()

    def reply(self, asked: Asked) -> Reply:
        query = asked.query
        if query.get("apikey") != KEY:
            return Reply({"Error Message": BAD_KEY})
        names = ("symbol", "keywords", "tickers", "from_currency")
        about = next((query[name] for name in names if name in query), "")
        function = query.get("function", "")
        unknown: Any = {"Error Message": "Invalid API call."}
        if function == "GLOBAL_QUOTE":
            unknown = {"Global Quote": {}}
        return Reply(self.answers.get(f"{function} {about}", unknown))
