"""Situations that real users met at other exchanges and engines, each with its right outcome."""

import pytest

from tests.component.paper_exchange import Exchange
from tests.component.trading_case import CASES, Case


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.json")))
def test_the_outcome_is_right(exchange: Exchange, name: str) -> None:
    Case(exchange, name).play()
