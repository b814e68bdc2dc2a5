"""Numbers, JSON and text as they are written: the bounds, and that settings, contracts and the bus keep them."""

import json
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_settings import BaseSettings

from services.gateway.http.schemas import AnyCaseSymbol, Word
from services.gateway.settings import Settings as GatewaySettings
from services.marketdata.settings import Settings as MarketdataSettings
from services.orders.settings import Settings as OrdersSettings
from shared.broker_setup import SetupSettings
from shared.bus.poison import LONGEST_REASON, poison_actor, read
from shared.contracts.accounts import AccountSettings
from shared.contracts.corporate_actions import CorporateAction
from shared.contracts.written import DEPTH, LENGTH, Bounded, read_json
from shared.settings import InvalidSettings, ServiceSettings, load

SETTINGS = (ServiceSettings, GatewaySettings, MarketdataSettings, OrdersSettings, SetupSettings)
HOSTILE = [
    "1." + "0" * 16_384,
    "9" * 5_000,
    "1e9999999",
    "1e-2000000",
    "1e31",
    "1_000",
    "١٢٣",
    "\uff11\uff12",
    " 1",
    "1\n",
    "+1",
    "0x1",
    "1,5",
    "NaN",
    "-Infinity",
    "",
]


@pytest.mark.parametrize("kind", [Decimal, int, float])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_number_is_refused_as_text(kind: Any, text: str) -> None:
    """No number is made of it, and the error is small."""
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Annotated[kind, Bounded(ge=0, le=10**9)]).validate_python(text)
    assert len(refused.value.errors()[0]["msg"]) < 200


@pytest.mark.parametrize("number", [Decimal("1e9999999"), Decimal("1e-9999999"), Decimal("NaN"), 10**200, True, 1.5])
def test_a_hostile_number_is_refused_as_a_value(number: object) -> None:
    """Python takes megabytes to write out such a Decimal, and refuses to write such an integer."""
    with pytest.raises(ValidationError):
        AccountSettings.model_validate({"borrow_rate": number})


@pytest.mark.parametrize("text", ["0", "12.50", ".5", "5.", "-1e-9", "1E+2", "1e30", "0" * LENGTH])
def test_a_plain_number_is_taken(text: str) -> None:
    """As Python and JSON write numbers."""
    assert TypeAdapter(Annotated[Decimal, Bounded()]).validate_python(text) == Decimal(text)


@pytest.mark.parametrize(
    "data",
    [
        *(
            text.encode()
            for text in ("1e31", "9" * 129, "1." + "0" * 200, "[1e9999999999999999999]", "NaN", "-Infinity")
        ),
        "{}".encode("utf-16"),
        "{}".encode("utf-32-le"),
        "{}".encode("utf-8-sig"),
        b'"\xff"',
        b'{"qty": 1, "qty": 2}',
        b'[{"a": {"b": 1, "b": 1}}]',
        b'{"\\ud800": 1}',
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
        b'{"a":' * (DEPTH + 1) + b"1" + b"}" * (DEPTH + 1),
        b"[" * 100_000,
    ],
)
def test_hostile_json_is_refused(data: bytes) -> None:
    """With a ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r"\S"):
        read_json(data)


def test_json_within_the_bounds_is_read() -> None:
    """Numbers keep their digits, and a pair of surrogates is one character."""
    assert read_json(b'{"a": [1, 2.50, "\\ud83d\\ude00"]}') == {"a": [1, Decimal("2.50"), "😀"]}
    deep = b"[" * DEPTH + b"]" * DEPTH
    assert json.dumps(read_json(deep)).encode() == deep


@pytest.mark.parametrize(
    "character", [0x00, 0x1B, 0x7F, 0x85, 0x9F, 0x61C, 0x200B, 0x200E, 0x202E, 0x2028, 0x2069, 0xFEFF]
)
def test_invisible_characters_are_refused_in_text(character: int) -> None:
    """A reader would see another text than the one that is stored."""
    with pytest.raises(ValidationError):
        TypeAdapter(Word).validate_python(f"a{chr(character)}b")


@pytest.mark.parametrize("symbol", ["ß", "\u0131", "ﬁ", "\uff21APL", "AAPL\u200b", "aapl\u017f"])
def test_a_symbol_is_ascii_before_it_is_upper_cased(symbol: str) -> None:
    """The capital letters of some others are ASCII, so that another symbol would be meant."""
    with pytest.raises(ValidationError):
        TypeAdapter(AnyCaseSymbol).validate_python(symbol)


@pytest.mark.parametrize("settings", SETTINGS)
def test_each_numeric_setting_has_both_bounds(settings: type[BaseSettings]) -> None:
    """A setting without one could fill the memory or stop the service."""
    unbounded = []
    for name, field in settings.model_fields.items():
        bounds: Any = next((each for each in field.metadata if isinstance(each, Bounded)), Bounded())
        low, high = (bounds.gt, bounds.ge), (bounds.lt, bounds.le)
        if field.annotation in {int, float, Decimal} and (low == (None, None) or high == (None, None)):
            unbounded.append(name)
    assert unbounded == []


@pytest.mark.parametrize(
    ("settings", "variable", "text"),
    [
        (OrdersSettings, "PAPERPROFIT_ORDERS_ASSUMED_SPREAD_BPS", "1e-2000000"),
        (OrdersSettings, "PAPERPROFIT_ORDERS_MAX_QUOTE_AGE", "1e999"),
        (GatewaySettings, "PAPERPROFIT_DEMO_CASH", "1_000"),
        (GatewaySettings, "PAPERPROFIT_DEMO_CASH", "١٢٣"),
        (GatewaySettings, "PAPERPROFIT_DEMO_CASH", "1e13"),
        (GatewaySettings, "PAPERPROFIT_ALERT_QUEUE_AGE", "1e30"),
        (ServiceSettings, "PAPERPROFIT_THREADS", "1_0"),
        (MarketdataSettings, "PAPERPROFIT_SEED", "9" * 5_000),
        (MarketdataSettings, "PAPERPROFIT_KEEP_BARS_DAYS", "9999999999"),
        (SetupSettings, "PAPERPROFIT_RABBITMQ_PASSWORDS", '{"orders": "a", "orders": "b"}'),
    ],
)
def test_a_setting_beyond_its_bounds_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, settings: type[BaseSettings], variable: str, text: str
) -> None:
    """The error names the variable and is short."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(InvalidSettings, match=f"^{variable}: ") as refused:
        load(settings)
    assert len(str(refused.value)) < 300


def test_a_secret_that_no_request_can_send_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's secret is cut at 200 characters, so a longer one would never be right."""
    monkeypatch.setenv("PAPERPROFIT_API_SECRET_KEY", "s" * 200)
    assert load(GatewaySettings).api_secret_key is not None
    monkeypatch.setenv("PAPERPROFIT_API_SECRET_KEY", "s" * 201)
    with pytest.raises(InvalidSettings, match="API_SECRET_KEY: must not have more than 200 characters") as refused:
        load(GatewaySettings)
    assert "sss" not in str(refused.value)


@pytest.mark.parametrize("ratio", ["1e9999999", 10**40, "1." + "0" * 9_000])
def test_a_hostile_ratio_is_refused_before_it_is_a_fraction(ratio: object) -> None:
    """A fraction of so many digits takes minutes."""
    given = {"symbol": "AAPL", "kind": "split", "effective_at": "2026-11-23T15:00:00Z", "ratio": ratio}
    with pytest.raises(ValidationError):
        CorporateAction.model_validate(given)
    with pytest.raises(ValidationError):
        CorporateAction.model_validate({**given, "ratio": None, "new_shares": 10**40, "old_shares": 1})


@pytest.mark.parametrize(
    "amount",
    ["1e400", "9" * 5_000, '"' + "9" * 5_000 + '"', "1." + "0" * 16_384, "[" * 2_000 + "]" * 2_000, '1, "amount": 2'],
)
def test_a_hostile_number_on_the_bus_is_poison_with_a_short_reason(amount: str) -> None:
    """Or its body is refused by the contract. Neither takes long, nor is the reason long."""
    queue = "orders.commands"
    envelope = f'{{"queue_name": "", "actor_name": "MoveCash.v1", "args": [], "kwargs": {{"amount": {amount}}}, '
    envelope += f'"options": {{}}, "message_id": "{uuid4()}", "message_timestamp": 1}}'
    message = read(envelope.encode(), queue, {f"{queue}/MoveCash.v1"})
    if message.actor_name == poison_actor(queue):
        assert len(str(message.kwargs["poison"])) <= LONGEST_REASON
    else:
        with pytest.raises(ValidationError):
            TypeAdapter(Annotated[Decimal, Bounded()]).validate_python(message.kwargs["amount"])
