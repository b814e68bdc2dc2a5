"""Rights in the database: one writer for each schema, and others read only its published views."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pytest
from psycopg import errors as pg
from psycopg import sql
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import ProgrammingError

from shared.contracts.routing import SERVICES, WORKERS
from shared.database_setup import set_up
from shared.storage.engine import make_engine
from shared.storage.migrate import JOBS_ROLE
from tests.conftest import database
from tests.support import rows, value

#: The views through which other services may read.
PUBLISHED = {
    "marketdata": {
        "markets_v1",
        "session_changes_v1",
        "session_differences_v1",
        "sessions_v1",
        "sessions_v2",
        "instruments_v1",
        "bars_v1",
        "bars_v2",
        "bar_coverage_v1",
        "adjustments_v1",
        "history_providers_v1",
        "provider_states_v1",
        "corporate_actions_v1",
        "official_prices_v1",
        "symbol_changes_v1",
        "trading_days_v1",
        "rates_v1",
        "halts_v1",
        "indicators_v1",
        "indicator_values_v1",
        "news_v1",
        "news_symbols_v1",
        "dead_letters_v1",
    },
    "orders": {
        "accounts_v1",
        "orders_v1",
        "positions_v1",
        "lots_v1",
        "fills_v1",
        "round_trips_v1",
        "trades_v1",
        "ledger_v2",
        "dividends_v1",
        "split_counts_v1",
        "account_halts_v1",
        "dead_letters_v1",
    },
    "valuation": {
        "current_positions_v1",
        "account_values_v1",
        "account_summaries_v1",
        "position_values_v1",
        "last_prices_v1",
        "alert_rules_v1",
        "risk_limits_v1",
        "alerts_v1",
        "reports_v1",
        "daily_summaries_v1",
        "dead_letters_v1",
    },
    "strategy": {
        "backtest_trials_v1",
        "backtests_v1",
        "dead_letters_v1",
        "decisions_v1",
        "indicators_v1",
        "kinds_v1",
        "signals_v1",
        "strategies_v1",
        "symbols_v1",
        "versions_v1",
        "account_targets_v1",
        "rebalances_v1",
        "rebalance_orders_v1",
    },
    "gateway": {"dead_letters_v1", "watchlist_symbols_v1", "watchlist_indicators_v1"},
}
JOBS_TABLES = (
    "jobs",
    "job_runs",
    "joins",
    "operator_actions",
    "workers",
    "queue_controls",
    "system_log",
    "notifications",
    "breakers",
    "rate_limits",
    "progress",
)
PAIRS = list(itertools.permutations(SERVICES, 2))
Engines = dict[str, Engine]

every_service = pytest.mark.parametrize("service", SERVICES)
every_pair = pytest.mark.parametrize(("service", "owner"), PAIRS)


@pytest.fixture(scope="module")
def own_database(postgres: str, template: dict[str, str]) -> Iterator[dict[str, str]]:
    """The services' URLs of a database that these tests share. None of them leaves anything in it."""
    with database(postgres, template) as urls:
        yield urls


@pytest.fixture(scope="module")
def engines(own_database: dict[str, str]) -> Iterator[Engines]:
    """Each service's engine, under its own role."""
    with ExitStack() as stack:
        made = {name: make_engine(url, name=name, pool_size=1) for name, url in own_database.items()}
        for engine in made.values():
            stack.callback(engine.dispose)
        yield made


@pytest.fixture(scope="module")
def admin(postgres: str, own_database: dict[str, str]) -> Iterator[Engine]:
    """A superuser in the same database."""
    name = make_url(own_database["orders"]).database
    engine = make_engine(make_url(postgres).set(database=name).render_as_string(hide_password=False), name="admin")
    yield engine
    engine.dispose()


def run(engine: Engine, statement: str) -> None:
    """Run the statement under the engine's role, and roll it back."""
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def allowed(engine: Engine, statements: Iterable[str]) -> list[str]:
    """The statements for which the role does not lack a privilege."""
    return [statement for statement in statements if not _refused(engine, statement)]


def _refused(engine: Engine, statement: str) -> bool:
    try:
        run(engine, statement)
    except ProgrammingError as error:
        if isinstance(error.orig, pg.InsufficientPrivilege):
            return True
        raise
    return False


def relations(admin: Engine, schema: str, *kinds: str) -> list[str]:
    """The names of the schema's relations of these kinds: r table, p partitioned table, v view."""
    found = rows(
        admin,
        "SELECT relname FROM pg_class WHERE relnamespace = CAST(:s AS regnamespace) AND relkind = ANY(:k) ORDER BY 1",
        s=schema,
        k=list(kinds),
    )
    return [row.relname for row in found]


def tables(admin: Engine, schema: str) -> list[str]:
    return [f"{schema}.{name}" for name in relations(admin, schema, "r", "p")]


def writable_views(admin: Engine, schema: str) -> list[str]:
    """The schema's views that PostgreSQL could write through: those of one table."""
    sql = "SELECT pg_relation_is_updatable(CAST(:v AS regclass), false) & 28 = 28"
    views = [f"{schema}.{name}" for name in relations(admin, schema, "v")]
    return [view for view in views if value(admin, sql, v=view)]


def writes(admin: Engine, relation: str) -> list[str]:
    """An INSERT, an UPDATE and a DELETE that change and read no row. Each needs one privilege only."""
    column = value(
        admin,
        "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:r AS regclass) AND attnum > 0"
        " AND attidentity = '' AND attgenerated = '' ORDER BY attnum DESC LIMIT 1",
        r=relation,
    )
    return [
        f"INSERT INTO {relation} ({column}) SELECT NULL WHERE false",
        f"UPDATE {relation} SET {column} = NULL WHERE false",
        f"DELETE FROM {relation} WHERE false",
    ]


def changes(relation: str) -> list[str]:
    """Changes of a table that only its owner may make."""
    return [
        f"ALTER TABLE {relation} ADD COLUMN added integer",
        f"TRUNCATE {relation} CASCADE",
        f"DROP TABLE {relation} CASCADE",
    ]


@every_service
def test_a_service_writes_its_own_tables(engines: Engines, admin: Engine, service: str) -> None:
    """Every table of its schema, those of the bus included."""
    own = tables(admin, service)
    assert {f"{service}.{table}" for table in ("inbox", "outbox", "dead_letters", "alembic_version")} < set(own)
    for table in own:
        for statement in writes(admin, table):
            run(engines[service], statement)


@every_pair
def test_a_service_cannot_write_to_the_schema_of_another(
    engines: Engines, admin: Engine, service: str, owner: str
) -> None:
    """Neither to its tables nor through its views."""
    for relation in [*tables(admin, owner), *writable_views(admin, owner)]:
        assert allowed(engines[service], writes(admin, relation)) == []
    for table in tables(admin, owner):
        assert allowed(engines[service], changes(table)) == []


@every_pair
def test_a_service_reads_the_published_views_of_another_and_no_table(
    engines: Engines, admin: Engine, service: str, owner: str
) -> None:
    """A view is a contract, a table belongs to its owner alone."""
    assert set(relations(admin, owner, "v")) == PUBLISHED[owner]
    for view in PUBLISHED[owner]:
        run(engines[service], f"SELECT * FROM {owner}.{view}")
    assert allowed(engines[service], [f"SELECT * FROM {table}" for table in tables(admin, owner)]) == []


@every_pair
def test_a_service_cannot_take_on_the_role_or_the_schema_of_another(engines: Engines, service: str, owner: str) -> None:
    """It can neither take the other's role, nor make or drop anything in its schema."""
    statements = [
        f"SET ROLE paperprofit_{owner}",
        f"CREATE TABLE {owner}.intruder (id integer)",
        f"DROP SCHEMA {owner} CASCADE",
    ]
    assert allowed(engines[service], statements) == []


@every_service
def test_a_service_cannot_become_the_owner_of_the_job_engine(engines: Engines, admin: Engine, service: str) -> None:
    """Not by its role, nor by a grant to itself. Neither can it change, empty or drop a table of the schema."""
    assert set(tables(admin, "jobs")) == {f"jobs.{name}" for name in (*JOBS_TABLES, "alembic_version")}
    statements = [
        f"SET ROLE {JOBS_ROLE}",
        f"SET SESSION AUTHORIZATION {JOBS_ROLE}",
        f"GRANT {JOBS_ROLE} TO paperprofit_{service}",
        f"ALTER ROLE {JOBS_ROLE} LOGIN PASSWORD 'mine'",
        f"REASSIGN OWNED BY {JOBS_ROLE} TO paperprofit_{service}",
        "CREATE TABLE jobs.intruder (id integer)",
        "DROP SCHEMA jobs CASCADE",
        "UPDATE jobs.alembic_version SET version_num = 'jobs_v1_0001'",
        *(change for table in tables(admin, "jobs") for change in changes(table)),
    ]
    assert allowed(engines[service], statements) == []


@every_service
def test_operator_actions_cannot_be_deleted_or_rewritten(engines: Engines, service: str) -> None:
    """Nor can a table's guard be switched off."""
    statements = [
        "DELETE FROM jobs.operator_actions",
        "TRUNCATE jobs.operator_actions",
        "UPDATE jobs.operator_actions SET who = 'nobody'",
        (
            "INSERT INTO jobs.operator_actions (id, at, who, what, subject) OVERRIDING SYSTEM VALUE"
            " SELECT id, at, 'nobody', what, subject FROM jobs.operator_actions ON CONFLICT (id) DO UPDATE SET who = ''"
        ),
        "LOCK TABLE jobs.operator_actions IN ACCESS EXCLUSIVE MODE",
        "ALTER TABLE jobs.operator_actions DISABLE TRIGGER ALL",
        "ALTER TABLE jobs.job_runs DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_rows ON jobs.job_runs",
    ]
    assert allowed(engines[service], statements) == []


def test_only_the_gateway_deletes_jobs_and_only_retired_ones(engines: Engines, rows_of_all: Engine) -> None:
    """A job that some replica declares stays, whoever asks."""
    with rows_of_all.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs.jobs SET retired_at = now() WHERE service = 'orders'")
    for service in WORKERS:
        assert allowed(engines[service], ["DELETE FROM jobs.jobs"]) == []
    with engines["gateway"].begin() as connection:
        assert connection.exec_driver_sql("DELETE FROM jobs.jobs RETURNING name").scalars().all() == ["orders_job"]
        connection.rollback()


@pytest.fixture
def rows_of_all(admin: Engine) -> Iterator[Engine]:
    """A job, a run, a worker, a line, a paused queue and a figure of progress of each service with jobs."""
    add = """
    INSERT INTO jobs.jobs (name, service, description, market, updated_at)
      SELECT s || '_job', s, '', 'DEMO', now() FROM unnest(%(services)s) AS s;
    INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at)
      SELECT gen_random_uuid(), s || '_job', s, 'manual', now() FROM unnest(%(services)s) AS s;
    INSERT INTO jobs.workers (id, service, host, pid, kind, started_at, heartbeat_at)
      SELECT s, s, 'box', 7, 'worker', now(), now() FROM unnest(%(services)s) AS s;
    INSERT INTO jobs.system_log (at, service, level, logger, message, worker)
      SELECT now(), s, 'INFO', 'test', 'said', 'box:7' FROM unnest(%(services)s) AS s;
    INSERT INTO jobs.queue_controls SELECT s || '.jobs', false, now(), 'OPERATOR1' FROM unnest(%(services)s) AS s;
    INSERT INTO jobs.progress SELECT s, 'outbox', now(), now() FROM unnest(%(services)s) AS s;
    """
    remove = "DELETE FROM jobs.job_runs; DELETE FROM jobs.jobs; DELETE FROM jobs.workers; DELETE FROM jobs.system_log;"
    with admin.begin() as connection:
        listed = sql.Literal(list(WORKERS)).as_string()
        connection.exec_driver_sql(add.replace("%(services)s", f"{listed}::text[]").replace("%", "%%"))
    yield admin
    with admin.begin() as connection:
        connection.exec_driver_sql(f"{remove} DELETE FROM jobs.queue_controls; DELETE FROM jobs.progress;")


@pytest.mark.usefixtures("rows_of_all")
def test_a_service_changes_rows_of_its_own_in_the_job_engine(engines: Engines) -> None:
    """Of each table only the row of the service is changed or deleted, whatever the statement says."""
    statements = (
        "UPDATE jobs.jobs SET description = 'mine' RETURNING service",
        "UPDATE jobs.job_runs SET reason = 'mine' RETURNING service",
        "DELETE FROM jobs.job_runs RETURNING service",
        "UPDATE jobs.workers SET heartbeat_at = now() RETURNING service",
        "DELETE FROM jobs.workers RETURNING service",
        "DELETE FROM jobs.system_log RETURNING service",
        "UPDATE jobs.queue_controls SET paused = true RETURNING split_part(queue, '.', 1)",
        "UPDATE jobs.progress SET reached_at = now() WHERE part = 'outbox' RETURNING service",
    )
    for service in WORKERS:
        for statement in statements:
            with engines[service].connect() as connection:
                assert connection.exec_driver_sql(statement).scalars().all() == [service], statement


@pytest.mark.usefixtures("rows_of_all")
def test_a_service_adds_no_rows_of_another_to_the_job_engine(engines: Engines) -> None:
    """Neither a run, but of a job that follows its own, nor a job, a worker or a pause. The gateway may."""
    statements = [
        (
            "INSERT INTO jobs.jobs (name, service, description, market, updated_at)"
            " VALUES ('mine', 'orders', '', 'DEMO', now())"
        ),
        (
            "INSERT INTO jobs.job_runs (id, job, service, trigger, state, queued_at)"
            " VALUES (gen_random_uuid(), 'orders_job', 'orders', 'manual', 'waiting', now())"
        ),
        (
            "INSERT INTO jobs.job_runs (id, job, service, trigger, state, queued_at)"
            " VALUES (gen_random_uuid(), 'orders_job', 'orders', 'chain', 'waiting', now())"
        ),
        (
            "INSERT INTO jobs.workers (id, service, host, pid, kind, started_at, heartbeat_at)"
            " VALUES ('mine', 'orders', 'box', 7, 'worker', now(), now())"
        ),
        "INSERT INTO jobs.queue_controls VALUES ('orders.prices', true, now(), 'OPERATOR1')",
        "INSERT INTO jobs.progress VALUES ('orders', 'values', now(), now())",
    ]
    assert allowed(engines["strategy"], statements) == []
    for statement in statements:
        run(engines["gateway"], statement)


@pytest.mark.parametrize("service", WORKERS)
def test_alerts_are_the_gateways(engines: Engines, service: str) -> None:
    """A service can neither read, raise, change nor delete one."""
    statements = ["SELECT * FROM jobs.notifications", "DELETE FROM jobs.notifications"]
    assert allowed(engines[service], [*statements, "UPDATE jobs.notifications SET resolved_at = now()"]) == []
    run(engines["gateway"], "DELETE FROM jobs.notifications")


@every_service
def test_the_set_up_takes_the_role_of_the_job_engine_away_again(
    postgres: str, admin: Engine, engines: Engines, service: str
) -> None:
    """Earlier releases granted it to every service. The upgrade of such a database ends that."""
    url = make_url(postgres).set(database=admin.url.database).render_as_string(hide_password=False)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"GRANT {JOBS_ROLE} TO paperprofit_{service} WITH INHERIT FALSE, SET TRUE")
    assert allowed(engines[service], [f"SET ROLE {JOBS_ROLE}"]) != []
    set_up(url, {})
    assert allowed(engines[service], [f"SET ROLE {JOBS_ROLE}"]) == []


@every_service
def test_a_service_creates_nothing_outside_its_schema(engines: Engines, service: str) -> None:
    """Nothing in public, no schema, no role."""
    statements = [
        "CREATE TABLE public.intruder (id integer)",
        "CREATE FUNCTION public.intruder() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA intruder",
        "CREATE ROLE intruder",
    ]
    assert allowed(engines[service], statements) == []


def test_no_role_has_power_over_the_server(admin: Engine) -> None:
    """None is a superuser or can become one. Only the services' own roles can log in."""
    found = rows(admin, "SELECT * FROM pg_roles WHERE rolname LIKE 'paperprofit\\_%' ORDER BY rolname")
    assert len(found) == len(SERVICES) + 2
    for role in found:
        powers = (role.rolsuper, role.rolcreaterole, role.rolcreatedb, role.rolreplication, role.rolbypassrls)
        assert not any(powers), role.rolname
        assert role.rolcanlogin == (role.rolname.removeprefix("paperprofit_") in SERVICES)


@every_service
def test_a_service_is_a_member_of_the_shared_role_only(admin: Engine, service: str) -> None:
    """It inherits the right to read published views, and can become no other role."""
    found = rows(
        admin,
        "SELECT roleid::regrole::text AS role, inherit_option, admin_option FROM pg_auth_members"
        " WHERE member = CAST(:m AS regrole)",
        m=f"paperprofit_{service}",
    )
    assert [tuple(row) for row in found] == [("paperprofit_services", True, False)]
