"""A migration never changes once it has landed: databases that ran it would differ from those that run it now."""

import hashlib
from pathlib import Path

import pytest

from shared.storage.migrate import ROOT

MIGRATIONS = [
    *sorted(ROOT.glob("services/*/migrations/*.*")),
    *sorted((ROOT / "shared" / "jobs" / "migrations").glob("*.*")),
    ROOT / "shared" / "bus" / "tables.py",  # the initial migrations create what it returns
]
#: SHA-256 of each, cut to 16 digits. A new migration adds its line, and no line ever changes.
LANDED = {
    "services/gateway/migrations/0001_initial.py": "099f46f1abe4b2e0",
    "services/gateway/migrations/0002_idempotency_keys.py": "9a91e86ab36e1e84",
    "services/gateway/migrations/0003_keys_and_walls.py": "ada8c3de64d9eef4",
    "services/gateway/migrations/0004_alert_channels.py": "23ae79c3871de308",
    "services/gateway/migrations/0005_watchlists.py": "d3f1b6f6da01c4e5",
    "services/gateway/migrations/0006_watchlists_by_symbol.py": "5e9330268ea27afc",
    "services/gateway/migrations/carry_over.sql": "8fd93cb505e3d520",
    "services/marketdata/migrations/0001_initial.py": "d740b7d28fbdbae2",
    "services/marketdata/migrations/0002_bar_start.py": "cc3b33247b3e971d",
    "services/marketdata/migrations/0003_splits.py": "a131bd826ad063d4",
    "services/marketdata/migrations/0004_instruments.py": "8afd3cb7d91080b4",
    "services/marketdata/migrations/0005_history.py": "ae8ad772192df418",
    "services/marketdata/migrations/0006_session_changes.py": "2668dd6eb2baecc2",
    "services/marketdata/migrations/0007_indicators_and_news.py": "d8416d8c36c69362",
    "services/marketdata/migrations/0008_named_indicators.py": "2b132568380a6c18",
    "services/marketdata/migrations/0009_watched_indicators.py": "158dfd30f26f798f",
    "services/marketdata/migrations/0010_prices_in_place.py": "1cfb525cf8a17b49",
    "services/marketdata/migrations/0011_old_symbols.py": "27e72f5b51f3267b",
    "services/marketdata/migrations/carry_over.sql": "0d3d63d15021e756",
    "services/orders/migrations/0001_initial.py": "6aacce69814a0053",
    "services/orders/migrations/0002_orders_to_trust.py": "bb470f3005bc502e",
    "services/orders/migrations/0003_sessions.py": "21c2a4980b40d26a",
    "services/orders/migrations/0004_lots_view.py": "5bd1f558308b9006",
    "services/orders/migrations/0005_dividends.py": "2ad9f862a6c900db",
    "services/orders/migrations/0006_fill_quotes.py": "a76f8012dcc0e8bc",
    "services/orders/migrations/0007_account_halts.py": "16eec33c49df8bc9",
    "services/orders/migrations/carry_over.sql": "0c1f77bac7ac9bd5",
    "services/strategy/migrations/0001_initial.py": "37467f96980248c1",
    "services/strategy/migrations/0002_symbols_view.py": "bf566d94bbe428ea",
    "services/strategy/migrations/0003_strategies_of_every_kind.py": "61960f34f4a3515a",
    "services/strategy/migrations/0004_backtests.py": "ba8419062effa20c",
    "services/strategy/migrations/0005_named_indicators.py": "a0d01b03126895cc",
    "services/strategy/migrations/0006_risk_and_rebalances.py": "a23b6478d623c9b8",
    "services/strategy/migrations/carry_over.sql": "fdb23257f7f93e5b",
    "services/valuation/migrations/0001_initial.py": "b0dc0420a397577f",
    "services/valuation/migrations/0002_day_figures.py": "f08aca624fb9083d",
    "services/valuation/migrations/0003_between_splits.py": "07ffe7c3da5ca616",
    "services/valuation/migrations/0004_snapshots_and_alerts.py": "0f1e19c5a8d27371",
    "services/valuation/migrations/0005_reports.py": "6ee1cf7f84e31a60",
    "services/valuation/migrations/0006_risk_limits.py": "b95e5a9818eefd8b",
    "services/valuation/migrations/carry_over.sql": "06362918fb42b753",
    "shared/jobs/migrations/0001_initial.py": "6a486eba9c77d792",
    "shared/jobs/migrations/0002_rights.py": "e2935fd42501e12e",
    "shared/jobs/migrations/0003_retried_parts.py": "1ddeb5e9d1c2062a",
    "shared/jobs/migrations/0004_updates_in_place.py": "1f721cd0c9131055",
    "shared/jobs/migrations/0005_clocks_and_retired_jobs.py": "8f23ed1b3a2c7dd5",
    "shared/jobs/migrations/0006_joins.py": "91276cfb1705e8a7",
    "shared/jobs/migrations/carry_over.sql": "f3febf3ce95820da",
    "shared/bus/tables.py": "ede9d0b7dfa21b88",
}


@pytest.mark.parametrize(
    "path", [path for path in MIGRATIONS if path.is_file()], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_migration_is_as_it_landed(path: Path) -> None:
    """Add another migration instead, as CONTRIBUTING.md says."""
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == LANDED.get(path.relative_to(ROOT).as_posix())


def test_no_migration_is_lost() -> None:
    """A migration that is gone could not be run by a new database."""
    assert set(LANDED) <= {path.relative_to(ROOT).as_posix() for path in MIGRATIONS}
