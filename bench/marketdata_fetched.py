"""Prices of a provider's HTTP API: an answer of 500 quotes until its event is committed, and a round of 20,000 symbols.

A local server speaks Alpaca's shapes, and the real provider asks and reads it through alpaca-py.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import requests
from sqlalchemy import Engine, text

from bench.marketdata_database import marketdata_database
from bench.marketdata_prices import store_bare
from bench.marketdata_servers import HEADERS, PATH, Served, Snapshots, alpaca_settings, served
from bench.report import Goal, NotMeasured, Row, comparison, figure
from services.marketdata.persistence.partitions import ensure_partitions
from services.marketdata.providers.alpaca import Alpaca
from services.marketdata.usecases.fetch_prices import fetch_prices
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.instruments import AssetClass

QUOTES = 500
POLLED = 20_000
#: A round begins each minute.
ROUND_SECONDS = 60


def measure_decoded(*, runs: int) -> Sequence[Row]:
    """Time from the first byte of the answer to the commit, in turn with the same answer read and stored bare."""
    print(f"decoded: {runs} answers of {QUOTES} quotes", flush=True)
    with marketdata_database(QUOTES) as engine, served(Snapshots) as server:
        answers = _Answers(engine, server)
        for _ in range(5):
            answers.ours(), answers.bare()
        pairs = [(answers.ours(), answers.bare()) for _ in range(runs)]
    name = f"from the bytes of {QUOTES} quotes to the committed event, beside json.loads and bare unnest"
    return [
        comparison(name, "ms", pairs, Goal("ratio", "<=", 3)),
        figure("the same, ours alone", "ms", [ours for ours, _ in pairs], Goal("ours", "<=", 25)),
    ]


class _Answers:
    """Each session notes when the head of an answer has been read: its body has not been read then."""

    def __init__(self, engine: Engine, server: Served) -> None:
        self._engine = engine
        self._context = context_of(engine)
        provider = Alpaca(alpaca_settings(server, requests_per_minute=100_000))
        provider.traits = replace(provider.traits, batch=QUOTES)  # type: ignore[misc]
        self._order = {AssetClass.US_EQUITY: [provider]}
        self._session = requests.Session()
        self._url = server.url + PATH
        self._symbols = ",".join(f"S{number}" for number in range(QUOTES))
        self._came = 0.0
        for session in (self._session, provider._clients._session):  # noqa: SLF001
            session.hooks["response"].append(self._note)

    def _note(self, *_: Any, **__: Any) -> None:
        self._came = time.perf_counter()

    def ours(self) -> float:
        count = fetch_prices(self._context, self._order)
        taken = (time.perf_counter() - self._came) * 1000
        if count != QUOTES:
            raise NotMeasured(f"{count} of {QUOTES} quotes were stored")
        forget_events(self._engine)
        return taken

    def bare(self) -> float:
        response = self._session.get(self._url, params={"symbols": self._symbols}, headers=HEADERS, stream=True)
        given = _columns(response.json())
        with self._engine.begin() as connection:
            store_bare(connection, given)
        return (time.perf_counter() - self._came) * 1000


def _columns(snapshots: dict[str, Any]) -> dict[str, list[Any]]:
    rows = [
        (symbol, *(quote[name] for name in ("bp", "ap", "bs", "as")), trade["p"], trade["s"], trade["t"])
        for symbol, each in snapshots.items()
        for quote, trade in [(each["latestQuote"], each["latestTrade"])]
    ]
    symbol, bid, ask, bid_size, ask_size, last, volume, quoted_at = map(list, zip(*rows, strict=True))
    return {
        "symbol": symbol, "bid": bid, "ask": ask, "bid_size": bid_size, "ask_size": ask_size, "last": last,
        "open": last, "high": last, "low": last, "volume": volume, "quoted_at": quoted_at,
    }  # fmt: skip


def measure_poll(*, runs: int) -> Sequence[Row]:
    """Rounds of 20,000 symbols on one replica, in turn with the same requests sent bare by as many threads."""
    print(f"poll: {runs} rounds of {POLLED:,} symbols", flush=True)
    pairs, counts = [], []
    with marketdata_database(POLLED) as engine, served(Snapshots) as server:
        provider, context = Alpaca(alpaca_settings(server)), context_of(engine)
        for _ in range(runs):
            before, begun = server.tell("count"), time.perf_counter()
            stored = fetch_prices(context, {AssetClass.US_EQUITY: [provider]})
            taken = time.perf_counter() - begun
            if stored != POLLED:
                raise NotMeasured(f"{stored:,} of {POLLED:,} symbols were stored")
            counts.append(server.tell("count") - before)
            forget_events(engine)
            pairs.append((taken, _bare_round(server, provider)))
    rate = provider.traits.rate
    assert rate is not None
    return [
        comparison(
            f"a round of {POLLED:,} symbols, stored and published, beside its requests alone",
            "s",
            pairs,
            Goal("max", "<=", ROUND_SECONDS),
        ),
        figure(f"its requests, of {rate.allowed} a minute", "requests", counts, Goal("max", "<=", rate.allowed)),
    ]


def _bare_round(server: Served, provider: Alpaca) -> float:
    symbols, batch = [f"S{number}" for number in range(POLLED)], provider.traits.batch
    batches = [",".join(symbols[begin : begin + batch]) for begin in range(0, POLLED, batch)]

    def ask(names: str) -> int:
        return len(requests.get(server.url + PATH, params={"symbols": names}, headers=HEADERS, timeout=10).json())

    begun = time.perf_counter()
    with ThreadPoolExecutor(provider.traits.parallel) as pool:
        assert sum(pool.map(ask, batches)) == POLLED
    return time.perf_counter() - begun


def context_of(engine: Engine) -> ServiceContext:
    """The service's context, whose bars of now have a partition."""
    with engine.begin() as connection:
        ensure_partitions(connection, utc_now())
    return ServiceContext("marketdata", engine, utc_now)


def forget_events(engine: Engine) -> None:
    """Do as the relay does, which removes what it has published."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM marketdata.outbox"))
