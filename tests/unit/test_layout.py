"""The house rules that a machine can read, on the source itself."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from shared.contracts.routing import SERVICES, WORKERS
from shared.storage.migrate import ROOT

SOURCES = sorted(path for package in ("shared", "services", "embedded") for path in (ROOT / package).rglob("*.py"))
DOMAINS = [ROOT / "services" / service / "domain" for service in SERVICES]
DOMAIN_FILES = [path for folder in DOMAINS for path in sorted(folder.glob("**/*.py"))]

#: The one place that asks what time it is.
CLOCK = "shared/clock.py"
#: These measure how long something took or wait for something; none of their times is stored or sent on.
WAITING = (
    "shared/health.py",
    "shared/worker.py",
    "shared/service.py",
    "shared/bus/",
    "shared/jobs/pulse.py",  # a run's time limit
    "shared/jobs/scheduler.py",  # periodiq asks for its next wake-up in pendulum's time
    "shared/storage/cluster.py",
    "shared/storage/engine.py",
    "shared/testing/",
    "services/gateway/keys.py",
    "services/gateway/page.py",
    "services/marketdata/feed.py",
    "embedded/__main__.py",
)
WALL_CLOCK = {
    f"{owner}.{name}" for owner in ("datetime", "date", "datetime.datetime") for name in ("now", "utcnow", "today")
}
TIMERS = {
    "pendulum.now",
    *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
}

#: Files that play one role in any service, and so have one name in all of them.
ROLES = {"__init__", "__main__", "actors", "jobs", "service", "settings", "store"}
#: The nouns that only this service has, besides its roles.
NOUNS = {
    "marketdata": {
        "calendars",
        "corporate_actions",
        "feed",
        "halts",
        "official_prices",
        "partitions",
        "prices",
        "providers",
    },
    "orders": {
        "account_store",
        "adjusting",
        "auctions",
        "entering",
        "exchange_rates",
        "filling",
        "funding",
        "margin_calls",
        "margining",
        "order_saving",
        "proof",
        "quotes",
        "recovery",
        "saving",
        "saying",
    },
    "valuation": set[str](),
    "strategy": set[str](),
    "gateway": {
        "account_rows",
        "accounts",
        "accounts_api",
        "alerts",
        "alpaca",
        "answers",
        "app",
        "corporate_actions_api",
        "desk",
        "endpoints",
        "errors",
        "halts_api",
        "housekeeping",
        "jobs_api",
        "keys",
        "letters_api",
        "live",
        "models",
        "notifier",
        "official_prices_api",
        "openapi",
        "operations",
        "operations_api",
        "order_rows",
        "page",
        "paging",
        "positions_api",
        "queries",
        "queues_api",
        "replace_key",
        "requests",
        "rules",
        "runs_api",
        "shapes",
        "steering",
        "targets",
        "trading",
    },
}
FOLDERS = {"domain", "migrations", "data", "static"}
#: Calls that only the file of that role makes.
ROLE_OF_CALL = {"actors.on": "actors", "Jobs": "jobs", "jobs.job": "jobs", "Service": "service"}
SETTINGS_BASES = {"BaseSettings", "ServiceSettings"}

every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
every_domain_file = pytest.mark.parametrize("path", DOMAIN_FILES, ids=lambda path: str(path.relative_to(ROOT)))
every_service = pytest.mark.parametrize("service", SERVICES)


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(), filename=str(path))))


def imports_of(path: Path) -> Iterator[str]:
    """The modules, and the names in them, that a file imports: ``from a.b import c`` is ``a.b.c``."""
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls_of(path: Path) -> list[str]:
    """What a file calls, as it is written."""
    return [ast.unparse(node.func) for node in nodes_of(path) if isinstance(node, ast.Call)]


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def service_of(path: Path) -> str | None:
    """The service that a source file belongs to, if to one."""
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "services" and len(parts) > 2 else None


@every_domain_file
def test_a_domain_imports_nothing_that_does_io(path: Path) -> None:
    """The standard library, money, the contracts, and itself; so live, replay and tests run the same code."""
    own = f"services.{service_of(path)}.domain"
    foreign = [
        module
        for module in imports_of(path)
        if module.partition(".")[0] not in sys.stdlib_module_names
        and not within(module, own, "shared.money", "shared.contracts")
    ]
    assert foreign == []


@every_domain_file
def test_a_domain_uses_no_part_of_the_standard_library_that_does_io(path: Path) -> None:
    """Files, sockets, threads, the environment and the time are handed in, or stay outside."""
    doers = ("os", "io", "pathlib", "socket", "subprocess", "threading", "asyncio", "time", "urllib", "http", "sqlite3")
    assert [module for module in imports_of(path) if within(module, *doers)] == []
    assert [call for call in calls_of(path) if call in {"open", "print", "input"}] == []


@every_domain_file
def test_a_domain_has_no_floats(path: Path) -> None:
    """Neither written nor converted: money and quantities are Decimal from end to end."""
    written = [
        node.value for node in nodes_of(path) if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    named = [node.lineno for node in nodes_of(path) if isinstance(node, ast.Name) and node.id == "float"]
    assert written == []
    assert named == []


@every_source
def test_no_service_imports_another(path: Path) -> None:
    """They are deployed apart and share only ``shared``, which knows none of them."""
    own = service_of(path)
    services = [module for module in imports_of(path) if within(module, "services")]
    if path.is_relative_to(ROOT / "embedded"):
        return
    assert [module for module in services if own is None or not within(module, f"services.{own}")] == []
    assert [module for module in imports_of(path) if within(module, "embedded", "tests", "bench")] == []


@every_source
def test_only_the_clock_asks_what_time_it_is(path: Path) -> None:
    """Everything else is given a time, or a clock; measuring a wait is another thing, and listed."""
    name = name_of(path)
    calls = {*calls_of(path), *imports_of(path)}  # from time import monotonic hides no call
    assert name == CLOCK or not calls & WALL_CLOCK
    assert name.startswith(WAITING) or not calls & TIMERS


def test_the_clock_is_asked_in_one_place() -> None:
    """The rule above would hold of a system without a clock too."""
    assert [name_of(path) for path in SOURCES if set(calls_of(path)) & WALL_CLOCK] == [CLOCK]


@every_source
def test_a_failure_is_not_caught_unseen(path: Path) -> None:
    """A broad except is a defect outside the one place that records a failed run."""
    broad = [
        node.lineno
        for node in nodes_of(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type))))
    ]
    assert len(broad) == (1 if name_of(path) == "shared/jobs/running.py" else 0)


@every_service
def test_a_service_has_the_files_that_its_roles_are_named_after(service: str) -> None:
    """Nobody searches: a role has one name everywhere, the rest are the service's own nouns, listed here."""
    folder = ROOT / "services" / service
    files = {path.stem for path in folder.glob("*.py")}
    assert files - ROLES - NOUNS[service] == set()
    assert NOUNS[service] <= files
    assert {"__init__", "__main__", "service", "store"} <= files
    assert {path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"} <= FOLDERS


def test_a_name_that_two_services_use_is_a_role() -> None:
    """Otherwise it would mean one thing here and another there."""
    assert [
        noun for noun, uses in Counter(noun for nouns in NOUNS.values() for noun in nouns).items() if uses > 1
    ] == []


@pytest.mark.parametrize("service", WORKERS)
def test_what_plays_a_role_is_in_the_file_of_that_role(service: str) -> None:
    """Actors in actors.py, jobs in jobs.py, and the service itself in service.py."""
    folder = ROOT / "services" / service
    for path in folder.glob("*.py"):
        assert {ROLE_OF_CALL[call] for call in calls_of(path) if call in ROLE_OF_CALL} <= {path.stem}
    assert {"Jobs", "jobs.job"} <= set(calls_of(folder / "jobs.py"))
    assert "Service" in calls_of(folder / "service.py")


@every_service
def test_settings_stand_in_settings(service: str) -> None:
    """Whoever looks for an environment variable finds it there."""
    for path in (ROOT / "services" / service).glob("*.py"):
        settings = [
            node.name
            for node in nodes_of(path)
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & SETTINGS_BASES
        ]
        assert not settings or path.stem == "settings"


@pytest.mark.parametrize("owner", [*SERVICES, "jobs"])
def test_migrations_are_a_chain_that_carries_its_owner_s_name(owner: str) -> None:
    """``0002_what.py`` is the revision ``orders_0002`` on top of ``orders_0001``: apart in one database."""
    folder = ROOT / "shared" / "jobs" if owner == "jobs" else ROOT / "services" / owner
    files = sorted((folder / "migrations").glob("*.py"))
    assert files, f"{owner} has no migrations"
    previous = None
    for number, path in enumerate(files, start=1):
        assert re.fullmatch(rf"{number:04}_[a-z0-9_]+\.py", path.name)
        constants = constants_of(path)
        assert constants["revision"] == f"{owner}_{number:04}"
        assert constants["down_revision"] == previous
        previous = constants["revision"]


def constants_of(path: Path) -> dict[str, object]:
    """The plain values that a module assigns at its top."""
    return {
        target.id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
