"""The strategy of docs/strategies.md and of ARCHITECTURE.md, as it is written there, from a package of its own."""

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Setup
from services.strategy.strategies import registry
from services.strategy.strategies.registry import GROUP, make_strategy, strategies
from services.strategy.strategies.view import Bar
from shared.exchange.market_rules import MarketRules
from shared.money import ZERO
from shared.storage.migrate import ROOT

DOCUMENTS = (ROOT / "docs" / "strategies.md", ROOT / "ARCHITECTURE.md")


def code_of(document: Path) -> str:
    """The only block of Python in the document."""
    (code,) = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    return str(code)


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def installed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The documented code as an installed package, which names its class as an entry point."""
    code = code_of(request.param)
    monkeypatch.delitem(sys.modules, "documented_strategy", raising=False)
    (tmp_path / "documented_strategy.py").write_text(code)
    described = tmp_path / "documented_strategy-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: documented-strategy\nVersion: 1\n")
    (described / "entry_points.txt").write_text(f"[{GROUP}]\nfalling = documented_strategy:Falling\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.strategies.cache_clear()
    yield
    registry.strategies.cache_clear()


@pytest.mark.usefixtures("installed")
def test_the_documented_strategy_trades_as_its_text_says() -> None:
    """It buys after two bars that fell, and sells once the position earns."""
    assert strategies()["falling"].title == "Buy after a losing streak"
    begin, day = datetime(2026, 11, 2, tzinfo=UTC), timedelta(days=1)
    bars = [
        Bar(begin + number * day, Decimal(opened), Decimal(110), Decimal(80), Decimal(closed), Decimal(1000))
        for number, (opened, closed) in enumerate([(100, 99), (99, 97), (96, 95), (95, 98), (99, 100)])
    ]
    setup = Setup(strategy=make_strategy("falling", {"bars": 2}), rules=MarketRules(half_spread=ZERO))

    found = run(setup, [Series("IBM", bars, day)])

    assert [(fill.order.side.value, int(fill.price)) for fill in found.exchange.fills] == [("buy", 96), ("sell", 99)]
    assert [each.decision.reason for each in found.decided if each.sized.side] == [
        "The last 2 bars fell.",
        "The position earns.",
    ]


@pytest.mark.usefixtures("installed")
def test_its_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="bars"):
        make_strategy("falling", {"bars": 1})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_it_has_twenty_lines(document: Path) -> None:
    lines = [line for line in code_of(document).splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 20
