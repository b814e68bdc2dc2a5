"""Rights in the database: one writer for each schema, and others read only its published views."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pytest
from psycopg import errors as pg
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import ProgrammingError

from shared.contracts.routing import SERVICES
from shared.storage.engine import make_engine
from shared.storage.migrate import JOBS_ROLE
from tests.conftest import database
from tests.support import rows, value

#: The views through which other services may read.
PUBLISHED = {
    "marketdata": {
        "markets_v1",
        "sessions_v1",
        "sessions_v2",
        "instruments_v1",
        "bars_v1",
        "bars_v2",
        "corporate_actions_v1",
        "official_prices_v1",
        "trading_days_v1",
        "rates_v1",
        "halts_v1",
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
        "dead_letters_v1",
    },
    "valuation": {
        "current_positions_v1",
        "account_values_v1",
        "account_summaries_v1",
        "daily_summaries_v1",
        "dead_letters_v1",
    },
    "strategy": {"dead_letters_v1"},
    "gateway": {"dead_letters_v1"},
}
JOBS_TABLES = (
    "jobs",
    "job_runs",
    "operator_actions",
    "workers",
    "queue_controls",
    "system_log",
    "notifications",
    "breakers",
    "rate_limits",
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


def run(engine: Engine, statement: str, *, role: str | None = None) -> None:
    """Run the statement under the engine's role, or the given one, and roll it back."""
    with engine.connect() as connection:
        if role:
            connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
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
def test_a_service_changes_the_job_engine_only_in_its_role(engines: Engines, admin: Engine, service: str) -> None:
    """It runs jobs as itself. To migrate the tables of jobs, it has to take on their owner's role."""
    assert set(tables(admin, "jobs")) == {f"jobs.{name}" for name in (*JOBS_TABLES, "alembic_version")}
    new_table = "CREATE TABLE jobs.intruder (id integer)"
    migrations = [new_table, *(change for table in tables(admin, "jobs") for change in changes(table))]
    assert allowed(engines[service], migrations) == []
    for statement in migrations:
        run(engines[service], statement, role=JOBS_ROLE)


@every_service
def test_operator_actions_cannot_be_deleted_or_rewritten(engines: Engines, service: str) -> None:
    """Nor can a job be deleted."""
    statements = [
        "DELETE FROM jobs.jobs",
        "DELETE FROM jobs.operator_actions",
        "UPDATE jobs.operator_actions SET who = 'nobody'",
    ]
    assert allowed(engines[service], statements) == []


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
def test_a_service_is_a_member_of_the_two_shared_roles_only(admin: Engine, service: str) -> None:
    """It inherits the right to read published views. The role of the job engine it has to take on by name."""
    found = rows(
        admin,
        "SELECT roleid::regrole::text AS role, inherit_option, admin_option FROM pg_auth_members"
        " WHERE member = CAST(:m AS regrole)",
        m=f"paperprofit_{service}",
    )
    assert {row.role: (row.inherit_option, row.admin_option) for row in found} == {
        "paperprofit_services": (True, False),
        JOBS_ROLE: (False, False),
    }
