"""The channels of alerts in the environment: the accepted URLs, the refused ones, and the parts that are shown."""

import sys
from pathlib import Path

import pytest

from services.gateway.alerts.channels import UnusableChannel, make_channels, split_urls
from services.gateway.settings import Settings
from shared.settings import InvalidSettings, load

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
MAIL = "mailto://paper:hunter2@example.com?to=one@example.com,two@example.com"


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", ()),
        (" , ", ()),
        (SLACK, (SLACK,)),
        (f"{SLACK},{MAIL}", (SLACK, MAIL)),
        (f"{MAIL}, {SLACK}", (MAIL, SLACK)),
        (f"\n{SLACK}\n  {MAIL}\n", (SLACK, MAIL)),
    ],
)
def test_urls_are_separated_by_whitespace_or_commas(text: str, urls: tuple[str, ...]) -> None:
    """A comma inside a URL, as between two receivers of a mail, is part of it."""
    assert split_urls(text) == urls


def test_the_usual_channels_are_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a webhook, e-mail, Slack and Telegram. Only their number and kind are shown."""
    telegram = "tgram://123456789:AABBCCDDEEFFGGHHIIJJKKLLMMNNOOPPQQR/12315544/"
    monkeypatch.setenv("PAPERPROFIT_ALERT_CHANNELS", f"jsons://hooks.example.com/x {MAIL} {SLACK} {telegram}")
    settings = load(Settings)
    channels = make_channels(settings.alert_channels)
    assert [channel.label for channel in channels] == ["1 JSON", "2 E-Mail", "3 Slack", "4 Telegram"]
    shown = repr(settings) + repr(channels)
    assert [secret for secret in ("hunter2", "TIiajkdn", "AABBCC", "hooks.example") if secret in shown] == []


@pytest.mark.parametrize("wrong", ["hunter2", "nosuch://hunter2", "json://hunter2:x:y", "slack://hunter2"])
def test_an_unusable_url_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """The error names the variable and the place of the URL, but not its value."""
    monkeypatch.setenv("PAPERPROFIT_ALERT_CHANNELS", f"{SLACK}, {wrong}")
    with pytest.raises(InvalidSettings) as refused:
        load(Settings)
    assert str(refused.value).startswith("PAPERPROFIT_ALERT_CHANNELS: apprise cannot send to URL 2 of 2;")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_unusable_channel_is_a_value_error() -> None:
    """Pydantic reports it as the error of the setting."""
    assert issubclass(UnusableChannel, ValueError)


def test_without_channels_apprise_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second to load."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "apprise"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("PAPERPROFIT_ALERT_CHANNELS", "")
    assert make_channels(load(Settings).alert_channels) == []
    assert "apprise" not in sys.modules


def test_an_empty_management_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose passes an empty string if the variable is not set."""
    monkeypatch.setenv("PAPERPROFIT_RABBITMQ_MANAGEMENT_URL", "")
    assert load(Settings).rabbitmq_management_url is None


def test_compose_passes_the_channels_to_the_gateway() -> None:
    """No other service gets them."""
    compose = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    assert compose.count("PAPERPROFIT_ALERT_CHANNELS") == 2
    assert "PAPERPROFIT_ALERT_CHANNELS: ${PAPERPROFIT_ALERT_CHANNELS:-}" in compose.partition("  gateway:\n")[2]
