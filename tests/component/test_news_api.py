"""News over HTTP: what is stored, by symbol and time, in pages."""

from datetime import timedelta
from uuid import uuid4

from services.marketdata.persistence.news import Story, add
from shared.clock import utc_now
from tests.component.http_trader import Trader


def test_headlines_are_listed_by_symbol_and_time_in_pages(trader: Trader) -> None:
    """The last one first. Any key may read them."""
    now = utc_now()
    stories = [
        Story(
            id=uuid4(), title=f"Number {number}", summary="", url=f"https://example.com/{number}", source="Wire",
            provider="wire", published_at=now - timedelta(hours=number), score=-0.5, scored_by="lexicon",
            url_key=f"https://example.com/{number}", title_key=f"wire: number {number}",
            symbols=("AAPL", "IBM") if number % 2 else ("AAPL",),
        )
        for number in range(4)
    ]  # fmt: skip
    with trader.system.contexts["marketdata"].unit_of_work() as uow:
        assert add(uow.connection, stories, now) == 4

    def titles(**query: object) -> list[str]:
        found: list[str] = []
        page = {"next": None}
        while True:
            given = {**query, "limit": 2} | ({"cursor": page["next"]} if page["next"] else {})
            page = trader.ask("GET", "/api/news", params=given).json()
            found += [item["title"] for item in page["items"]]
            if page["next"] is None:
                return found

    assert titles() == ["Number 0", "Number 1", "Number 2", "Number 3"]
    assert titles(symbol="ibm") == ["Number 1", "Number 3"]
    between = {"from": (now - timedelta(hours=3)).isoformat(), "to": (now - timedelta(hours=1)).isoformat()}
    assert titles(**between) == ["Number 2", "Number 3"]
    (item,) = trader.ask("GET", "/api/news", params={"symbol": "IBM", "limit": 1}).json()["items"]
    assert (item["symbols"], item["score"], item["scored_by"]) == (["AAPL", "IBM"], -0.5, "lexicon")
