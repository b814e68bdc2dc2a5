"""PostgreSQL with its compiler (JIT), as in Debian's packages and in Docker: no statement of ours is compiled.

To compile a statement takes up to a second, in each session anew. The planner decides by the cost, and our settings for
prepared statements add to it. On this server each statement of a session that allows it is compiled.
"""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url
from starlette.testclient import TestClient

from embedded.database import service_urls
from embedded.system import System
from tests.component.http_trader import KEY, ORDER, push, startable
from tests.conftest import running_system
from tests.servers.choice import compiling_postgres
from tests.support import eventually

#: Read by the page and by bots.
PAGES = (
    "/v2/account",
    "/v2/orders?status=all&nested=true",
    "/v2/orders?status=closed&side=buy&symbols=AAPL",
    "/v2/positions",
    "/api/jobs/status",
    "/api/runs",
    "/api/dead-letters",
    "/api/logs",
    "/api/workers",
)
COMPILED = r"""
SELECT r.rolname, s.query FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE s.jit_functions > 0 AND r.rolname LIKE 'paperprofit\_%'
"""


@pytest.fixture
def superuser() -> Iterator[str]:
    with compiling_postgres() as url:
        yield url


def test_no_statement_of_a_day_is_compiled(superuser: str) -> None:
    """Orders, fills, values, every job and the pages. A session of ours without the option would be seen."""
    with psycopg.connect(plain(superuser), autocommit=True) as watcher:
        watcher.execute("CREATE EXTENSION pg_stat_statements")
        urls = service_urls(superuser)
        with running_system(urls) as system, TestClient(system.app(), headers=KEY) as client:
            trade_for_a_day(system, client)
        (statements,) = watcher.execute("SELECT count(*) FROM pg_stat_statements").fetchone() or (0,)
        assert statements > 100
        assert watcher.execute(COMPILED).fetchall() == []
        with psycopg.connect(plain(urls["orders"]), options="") as unprotected:
            unprotected.execute("SELECT count(*) FROM orders.accounts")
        assert len(watcher.execute(COMPILED).fetchall()) == 1


def trade_for_a_day(system: System, client: TestClient) -> None:
    eventually(lambda: client.get("/v2/account").status_code == 200)
    for terms, last in (({}, "100"), ({"type": "limit", "limit_price": "90"}, "89"), ({"side": "sell"}, "91")):
        placed = client.post("/v2/orders", json={**ORDER, **terms}).json()
        push(system, last)
        eventually(lambda id_=placed["id"]: client.get(f"/v2/orders/{id_}").json()["status"] == "filled")  # type: ignore[misc]
    for job in startable(client):
        run = client.post(f"/api/jobs/{job}/trigger").json()["run_id"]
        eventually(lambda id_=run: client.get(f"/api/runs/{id_}").json()["state"] == "finished", seconds=60)  # type: ignore[misc]
    for page in PAGES:
        assert client.get(page).status_code == 200, page


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
