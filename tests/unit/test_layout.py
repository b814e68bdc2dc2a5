"""The house rules that a machine can read, on the source itself."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from shared.contracts.routing import SERVICES, WORKERS
from shared.storage.migrate import ROOT

SOURCES = sorted(path for package in ("shared", "services", "embedded") for path in (ROOT / package).rglob("*.py"))
DOMAINS = [*(ROOT / "services" / service / "domain" for service in SERVICES), ROOT / "shared" / "exchange"]
DOMAIN_FILES = [path for folder in DOMAINS for path in sorted(folder.glob("**/*.py"))]

#: The one place that asks what time it is.
CLOCK = "shared/clock.py"
#: These measure how long something took or wait for something; none of their times is stored or sent on.
WAITING = (
    "shared/observability/health.py",
    "shared/worker.py",
    "shared/replica_watch.py",
    "shared/service.py",
    "shared/bus/",
    "shared/jobs/engine/heartbeat.py",  # a run's time limit
    "shared/jobs/engine/tick.py",  # periodiq asks for its next wake-up in pendulum's time
    "embedded/postgres_cluster.py",
    "shared/storage/engine.py",
    "shared/storage/migrate.py",
    "services/gateway/alerts/evaluator.py",  # the pause between two evaluations
    "services/gateway/http/auth.py",
    "services/gateway/http/metrics.py",
    "services/marketdata/feed.py",
    "services/marketdata/check_provider.py",
    "services/marketdata/price_stream.py",
    "services/marketdata/providers/bounded_session.py",
    "services/marketdata/providers/yahoo_session.py",
    "services/marketdata/providers/yahoo_stream.py",
    "services/valuation/live_values.py",  # the pause between two publications
    "services/marketdata/usecases/stream_prices.py",  # the time that live quotes wait for older ones
    "embedded/http.py",
)
WALL_CLOCK = {
    f"{owner}.{name}" for owner in ("datetime", "date", "datetime.datetime") for name in ("now", "utcnow", "today")
}
TIMERS = {
    "pendulum.now",
    *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
}

#: A topic folder exists once it has this many files.
LEAST_FILES = 3
#: These folders mean something by themselves, however many files they have.
WITHOUT_SIZE = {"domain", "data", "migrations", "alembic", "resilience"}
#: Which topics and files a topic may import of its own package, besides itself. No arrow runs back up.
LAYERS: dict[str, dict[str, set[str]]] = {
    "services/gateway": {
        "http": {"settings", "streams"},
        "streams": set(),
        "trading": {"http", "streams"},
        "accounts": {"http", "trading", "operations"},
        "instruments": {"http", "trading", "operations"},
        "performance": {"accounts", "alerts", "http", "trading"},
        "reports": {"accounts", "http", "performance"},
        "backtests": {"http", "operations", "instruments"},
        "operations": {"http"},
        "strategies": {"http", "performance", "trading"},
        "rebalancing": {"http", "trading"},
        "alerts": set(),
        "console": {"http", "streams", "trading", "operations", "instruments"},
    },
    "services/orders": {"persistence": {"settings"}, "usecases": {"persistence", "settings", "metrics"}},
    "services/marketdata": {
        "domain": set(),
        "persistence": {"domain", "providers"},
        "providers": {"domain"},
        "news": {"providers"},
        "usecases": {"domain", "news", "persistence", "providers", "settings"},
    },
    "services/valuation": {"domain": set()},
    "services/strategy": {
        "strategies": set(),
        "backtest": {"strategies"},
        "persistence": {"strategies"},
        "usecases": {"strategies", "persistence", "backtest"},
        "rebalancing": {"strategies"},
    },
    "shared": {
        "contracts": {"money"},
        "exchange": {"money", "contracts"},
        "indicators": {"contracts"},
        "reports": {"account_market", "charts", "money", "pages", "performance", "storage"},
        "storage": {"tcp"},
        "bus": {"contracts", "storage", "background", "outage", "clock", "settings", "tcp", "tracebacks"},
        "observability": {"contracts", "settings", "storage", "outage", "repeated", "background", "bus", "tracebacks"},
        "resilience": {"bus", "outage", "observability"},
        "jobs": {
            "bus",
            "contracts",
            "storage",
            "background",
            "outage",
            "clock",
            "observability",
            "resilience",
            "tracebacks",
        },
    },
}
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
    service = service_of(path)
    own = "shared.exchange" if service is None else f"services.{service}.domain"
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
    """A broad except is a defect outside the places that record a failed run, a dead message and a failed strategy."""
    broad = [
        node.lineno
        for node in nodes_of(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type))))
    ]
    records = {"shared/jobs/engine/executor.py", "shared/bus/retries.py", "services/strategy/strategies/guard.py"}
    assert len(broad) == (1 if name_of(path) in records else 0)


@every_source
def test_sqlalchemy_errors_are_never_caught_alone(path: Path) -> None:
    """SQLAlchemy raises its own, and a commit psycopg's: ``DATABASE_ERRORS`` names both."""
    caught = [ast.unparse(node.type) for node in nodes_of(path) if isinstance(node, ast.ExceptHandler) and node.type]
    assert [each for each in caught if "SQLAlchemyError" in each] == []


@every_service
def test_a_service_starts_and_is_put_together_in_the_same_files(service: str) -> None:
    """A reader of one service finds the same roles under the same names in the others."""
    files = {path.stem for path in (ROOT / "services" / service).glob("*.py")}
    assert {"__init__", "__main__", "service"} <= files
    if service in WORKERS:
        assert "jobs" in files


def test_a_topic_folder_has_at_least_three_files() -> None:
    """A folder with one file hides it; a topic earns its folder with its third file."""
    folders = {path.parent for path in SOURCES if path.stem != "__init__" and "migrations" not in path.parts}
    topics = [
        folder
        for folder in folders
        if folder.parent.parent.name in {"services", "shared"} or folder.parent.name == "shared"
    ]
    small = [name_of(each) for each in topics if len(files_of(each)) < LEAST_FILES and each.name not in WITHOUT_SIZE]
    assert small == []


@pytest.mark.parametrize(("package", "allowed"), LAYERS.items())
def test_an_arrow_between_topics_is_one_that_the_house_allows(package: str, allowed: dict[str, set[str]]) -> None:
    """Each topic folder names the others that it may import; so no arrow runs back up."""
    folder = ROOT / package
    drawn = {
        (topic, other)
        for topic in allowed
        for path in sorted((folder / topic).rglob("*.py"))
        for other in parts_of(path, package)
        if other != topic
    }
    wished = {(topic, other) for topic, others in allowed.items() for other in others}
    assert drawn - wished == set()
    assert set(topics_of(folder)) == set(allowed)


@pytest.mark.parametrize(("package", "allowed"), LAYERS.items())
def test_the_arrows_that_the_house_allows_form_no_circle(package: str, allowed: dict[str, set[str]]) -> None:
    """A topic never reaches itself through others."""
    del package
    assert not any(topic in reached(allowed, topic) for topic in allowed)


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if path.stem != "__init__"]


def topics_of(folder: Path) -> list[str]:
    """The folders of a package that hold code, but for migrations."""
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_dir() and files_of(path) and path.name not in {"migrations", "data"}
    ]


def parts_of(path: Path, package: str) -> set[str]:
    """The parts of the package, files or topic folders, that a file imports."""
    prefix = package.replace("/", ".") + "."
    return {module.removeprefix(prefix).partition(".")[0] for module in imports_of(path) if module.startswith(prefix)}


def reached(allowed: dict[str, set[str]], topic: str) -> set[str]:
    """The topics that one reaches along any arrows."""
    found: set[str] = set()
    waiting = set(allowed[topic])
    while waiting:
        each = waiting.pop()
        found.add(each)
        waiting |= allowed.get(each, set()) - found
    return found


@pytest.mark.parametrize("service", WORKERS)
def test_what_plays_a_role_is_in_the_file_of_that_role(service: str) -> None:
    """Actors in actors.py, jobs in jobs.py, and the service itself in service.py."""
    folder = ROOT / "services" / service
    for path in folder.rglob("*.py"):
        assert {ROLE_OF_CALL[call] for call in calls_of(path) if call in ROLE_OF_CALL} <= {path.stem}
    assert {"Jobs", "jobs.job"} <= set(calls_of(folder / "jobs.py"))
    assert "Service" in calls_of(folder / "service.py")


@every_service
def test_settings_stand_in_settings(service: str) -> None:
    """Whoever looks for an environment variable finds it there."""
    for path in (ROOT / "services" / service).rglob("*.py"):
        settings = [
            node.name
            for node in nodes_of(path)
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & SETTINGS_BASES
        ]
        assert not settings or path.stem == "settings"


@pytest.mark.parametrize("owner", [*SERVICES, "jobs"])
def test_migrations_are_a_chain_that_carries_its_owner_s_name(owner: str) -> None:
    """``0002_what.py`` is the revision ``orders_v1_0002`` on top of ``orders_v1_0001``: apart in one database."""
    folder = ROOT / "shared" / "jobs" if owner == "jobs" else ROOT / "services" / owner
    files = sorted((folder / "migrations").glob("*.py"))
    assert files, f"{owner} has no migrations"
    previous = None
    for number, path in enumerate(files, start=1):
        assert re.fullmatch(rf"{number:04}_[a-z0-9_]+\.py", path.name)
        constants = constants_of(path)
        assert constants["revision"] == f"{owner}_v1_{number:04}"
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
