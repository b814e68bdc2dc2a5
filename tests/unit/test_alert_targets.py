"""Where administrators are told, as the environment says it: what is taken, what is refused, and what is shown."""

import sys
from pathlib import Path

import pytest

from services.gateway.alerts.channels import UnusableTarget, make_targets, split_targets
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
def test_targets_are_separated_by_blanks_or_commas(text: str, urls: tuple[str, ...]) -> None:
    """A comma inside of a URL, as between two receivers of a mail, is part of it."""
    assert split_targets(text) == urls


def test_the_kinds_that_administrators_ask_for_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook, e-mail, Slack, Telegram; what is shown of them is their place and kind."""
    telegram = "tgram://123456789:AABBCCDDEEFFGGHHIIJJKKLLMMNNOOPPQQR/12315544/"
    monkeypatch.setenv("PAPERPROFIT_ALERT_TARGETS", f"jsons://hooks.example.com/x {MAIL} {SLACK} {telegram}")
    settings = load(Settings)
    targets = make_targets(settings.alert_targets)
    assert [target.label for target in targets] == ["1 JSON", "2 E-Mail", "3 Slack", "4 Telegram"]
    shown = repr(settings) + repr(targets)
    assert [secret for secret in ("hunter2", "TIiajkdn", "AABBCC", "hooks.example") if secret in shown] == []


@pytest.mark.parametrize("wrong", ["hunter2", "nosuch://hunter2", "json://hunter2:x:y", "slack://hunter2"])
def test_a_target_that_cannot_be_used_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """The variable and the place are named, the value is not."""
    monkeypatch.setenv("PAPERPROFIT_ALERT_TARGETS", f"{SLACK}, {wrong}")
    with pytest.raises(InvalidSettings) as refused:
        load(Settings)
    assert str(refused.value).startswith(
        "PAPERPROFIT_ALERT_TARGETS: Value error, apprise cannot send to the URL at place 2 of 2;"
    )
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_unusable_target_is_a_value_error() -> None:
    """So pydantic takes it for what is wrong with the setting."""
    assert issubclass(UnusableTarget, ValueError)


def test_without_targets_apprise_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second to load."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "apprise"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("PAPERPROFIT_ALERT_TARGETS", "")
    assert make_targets(load(Settings).alert_targets) == []
    assert "apprise" not in sys.modules


def test_an_empty_management_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose hands it over where it is not set."""
    monkeypatch.setenv("PAPERPROFIT_RABBITMQ_MANAGEMENT_URL", "")
    assert load(Settings).rabbitmq_management_url is None


def test_compose_hands_the_targets_to_the_gateway() -> None:
    """And to no other service."""
    compose = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    assert compose.count("PAPERPROFIT_ALERT_TARGETS") == 2
    assert "PAPERPROFIT_ALERT_TARGETS: ${PAPERPROFIT_ALERT_TARGETS:-}" in compose.partition("  gateway:\n")[2]
