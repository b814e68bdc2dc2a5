"""Alpaca's answers, of the shapes in its documentation of market data v2, v1beta3 and v1."""

from typing import Any

from tests.servers.provider_http import Asked, ProviderServer, Reply

KEY, SECRET = "PKTEST0000000000", "c2VjcmV0LW9mLWEtdGVzdA"


def bar(at: str, opened: float, high: float, low: float, close: float, volume: float) -> dict[str, Any]:
    return {"t": at, "o": opened, "h": high, "l": low, "c": close, "v": volume, "n": 7, "vw": close}


def snapshot(price: float, at: str, **quote: Any) -> dict[str, Any]:
    sides = {"bp": price - 0.25, "bs": 100, "bx": "V", "ap": price + 0.25, "as": 200, "ax": "V", "c": ["R"], "z": "B"}
    day = bar(f"{at[:10]}T04:00:00Z", price, price, price, price, 1000)
    return {
        "latestTrade": {"t": at, "x": "V", "p": price, "s": 100, "c": ["@"], "i": 52983525029461, "z": "B"},
        "latestQuote": {"t": at, **sides, **quote},
        "minuteBar": bar(at, price, price, price, price, 100),
        "dailyBar": day,
        "prevDailyBar": day,
    }


class AlpacaServer(ProviderServer):
    """Alpaca. ``snapshots`` and ``bars`` are by symbol. A symbol without one is left out, a malformed one refused."""

    def __init__(self) -> None:
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.bars: dict[str, list[dict[str, Any]]] = {}
        self.actions: dict[str, list[dict[str, Any]]] = {}
        self.news: list[dict[str, Any]] = []
        self.assets: list[dict[str, Any]] = []
        self.malformed: set[str] = set()
        super().__init__()

    def reply(self, asked: Asked) -> Reply:
        headers = {name.casefold(): value for name, value in asked.headers.items()}
        if (headers.get("apca-api-key-id"), headers.get("apca-api-secret-key")) != (KEY, SECRET):
            return Reply({"message": "forbidden."}, 403)
        symbols = asked.query.get("symbols", "").split(",")
        if bad := self.malformed.intersection(symbols):
            return Reply({"message": f"invalid symbol: {min(bad)}"}, 400)
        snapshots = {each: self.snapshots[each] for each in symbols if each in self.snapshots}
        answers = {
            "/v2/stocks/snapshots": snapshots,
            "/v1beta3/crypto/us/snapshots": {"snapshots": snapshots},
            "/v2/stocks/bars": self._bars(symbols),
            "/v1beta3/crypto/us/bars": self._bars(symbols),
            "/v1/corporate-actions": {"corporate_actions": self.actions, "next_page_token": None},
            "/v1beta1/news": {"news": self.news, "next_page_token": None},
            "/v2/assets": self.assets,
        }
        return Reply(answers[asked.path]) if asked.path in answers else Reply({"message": "endpoint not found."}, 404)

    def _bars(self, symbols: list[str]) -> dict[str, Any]:
        return {"bars": {each: self.bars[each] for each in symbols if each in self.bars}, "next_page_token": None}
