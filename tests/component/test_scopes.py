"""Each route against a key of each scope: a written-out table of who may call it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.accounts.keys_api import check_grant
from services.gateway.app import ENDPOINTS
from services.gateway.http.auth import SCOPES, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Forbidden
from tests.component.http_trader import KEY, open_account

#: The scopes whose keys may call the routes of these handlers.
ALLOWED = {
    "read trade fund operate admin": """
        get_account get_clock get_calendar get_orders get_order get_order_by_client_id get_positions get_position
        get_account_settings get_ledger get_trades get_round_trips get_dividends get_session delete_session
        get_stream get_document get_bars get_bar_export get_instruments get_instrument get_instrument_search
        get_prices get_sessions
        get_indicators get_indicator_values get_latest_indicator_values get_news get_kinds get_strategies get_strategy
        get_versions get_signals get_decisions get_strategy_performance get_why get_performance get_equity
        get_account_positions
        get_portfolio_history get_alert_rules get_account_alerts get_reports get_report get_trades_csv
        get_ledger_csv get_risk_limits get_risk_halts get_rebalances get_rebalance get_targets
        get_alert_channels get_watchlists get_watchlist get_watchlist_by_name
        get_backtests get_backtest get_comparison get_optimisations get_optimisation get_heat_map
        get_backtest_report
    """,
    "trade operate admin": """
        post_strategy patch_strategy post_start post_strategy_pause post_strategy_resume post_stop post_flatten
        post_clone post_backtest post_cancel_backtest post_optimisation post_cancel_optimisation
    """,
    "trade admin": """
        post_order patch_order delete_order delete_orders delete_position delete_positions post_rebalance_preview
        post_rebalance post_cancel_rebalance put_targets delete_targets
        post_watchlist put_watchlist post_watchlist_symbol delete_watchlist delete_watchlist_symbol
        put_watchlist_by_name post_watchlist_symbol_by_name delete_watchlist_by_name
    """,
    "fund operate admin": """
        put_account_settings post_transfer post_reset put_alert_rules put_risk_limits post_risk_resume
        put_alert_channels
    """,
    "operate admin": """
        get_halts post_halt delete_halt get_corporate_actions post_corporate_action get_official_prices
        post_official_price get_status get_job patch_job delete_job get_figures post_trigger put_toggle
        post_backfill get_runs get_run post_cancel post_retry get_queues post_pause post_resume
        get_dead_letters get_dead_letter post_requeue post_discard get_logs get_workers get_breakers
        get_rate_limits get_alerts get_actions get_graph get_graph_picture post_instrument post_import
        patch_instrument delete_instrument post_prices post_bar_backfill get_bar_coverage post_bar_import
        get_replay post_replay get_session_changes post_session_change delete_session_change
        get_session_differences post_corporate_action_preview post_indicator delete_indicator
        get_risk_limits_of post_risk_resume_of get_risk_halts_of
    """,
    # a key may rotate and revoke itself, but here the key is another one
    "admin": """
        get_accounts post_account delete_account get_keys post_key patch_key delete_key post_rotate get_account_keys
        post_account_key get_performance_of get_equity_of get_alert_rules_of put_alert_rules_of get_reports_of
        get_account_positions_of
        get_report_of get_trades_csv_of get_ledger_csv_of put_risk_limits_of
    """,
}
TABLE = {handler: scopes.split() for scopes, handlers in ALLOWED.items() for handler in handlers.split()}
GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.scope is not None]


@pytest.fixture(scope="module")
def keys(market: System, visitor: TestClient) -> Iterator[dict[str, dict[str, str]]]:
    """A key of each single scope, all of one account."""
    owner = open_account(market, visitor)
    made = {}
    for scope in SCOPES:
        asked = {"name": scope, "scopes": [scope]}
        key = visitor.post(f"/api/accounts/{owner.account_id}/keys", json=asked, headers=KEY).json()
        made[scope] = {"APCA-API-KEY-ID": key["key_id"], "APCA-API-SECRET-KEY": key["secret_key"]}
    yield made
    visitor.cookies.clear()


def path_of(endpoint: Endpoint) -> str:
    """The endpoint's path with a value for each parameter that names nothing."""
    path = endpoint.path.replace("{dead_letter}", "7")
    for name in endpoint.in_path:
        path = path.replace(f"{{{name}}}", str(uuid4()) if name.endswith("_id") else "nothing")
    return path


def test_the_table_has_every_route_that_needs_a_key() -> None:
    assert sorted(TABLE) == sorted(endpoint.handler.__name__ for endpoint in GUARDED)


@pytest.mark.parametrize("endpoint", GUARDED, ids=lambda endpoint: endpoint.handler.__name__)
def test_a_route_is_forbidden_to_a_key_without_its_scope(
    visitor: TestClient, keys: dict[str, dict[str, str]], endpoint: Endpoint
) -> None:
    """Every other key gets past the check, and fails on what the request lacks."""
    name = endpoint.handler.__name__
    if name == "get_stream":  # it does not end
        assert all(Principal("", uuid4(), frozenset({scope})).may(str(endpoint.scope)) for scope in TABLE[name])
        return
    answers = {
        scope: visitor.request(endpoint.method, path_of(endpoint), headers=key).status_code
        for scope, key in keys.items()
    }
    assert [scope for scope, status in answers.items() if status != 403] == TABLE[name], answers


def test_metrics_need_the_scope_to_operate(visitor: TestClient, keys: dict[str, dict[str, str]]) -> None:
    """They are not part of the document."""
    client = TestClient(visitor.app)
    seen = [scope for scope, key in keys.items() if client.get("/metrics", headers=key).status_code == 200]
    assert seen == ["operate", "admin"]


@pytest.mark.parametrize("own", SCOPES)
def test_nobody_grants_a_scope_that_their_own_key_lacks(own: str) -> None:
    principal = Principal("KEY", uuid4(), frozenset({own}))
    for scope in SCOPES:
        if principal.may(scope):
            check_grant(principal, [scope])
        else:
            with pytest.raises(Forbidden, match=f"lacks the scope '{scope}'"):
                check_grant(principal, ["read", scope])
