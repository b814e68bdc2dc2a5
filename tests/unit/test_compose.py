"""The deployed shape as it is written down: Dockerfile, docker-compose.yml and what they use of deploy/."""

import re
import runpy
import subprocess
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from services.marketdata.providers.settings import AlpacaSettings, AlphaVantageSettings
from services.marketdata.settings import PollSettings, Settings
from shared.contracts.routing import SERVICES, WORKERS
from shared.observability.health import Checks, serve_health
from shared.settings import ServiceSettings
from shared.storage.migrate import ROOT
from shared.storage.sessions import TCP_OF_SERVER
from shared.worker import SCHEDULER_POOL_SIZE, SHUTDOWN_MS
from tests.servers.choice import POSTGRES_IMAGE, RABBITMQ_IMAGE

COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"
SERVERS = ("rabbitmq", "postgres")

#: PostgreSQL keeps these for superusers (superuser_reserved_connections).
RESERVED_CONNECTIONS = 3
#: Beside its threads a worker process has the relay, the health query, and in marketdata the feed's lock and write.
CONNECTIONS_BESIDE_THREADS = 8


def sections(text: str, indent: str) -> dict[str, str]:
    """The mappings of one depth by name, each with its text. Enough of YAML for a file of our own."""
    parts = re.split(rf"^{indent}([\w-]+):", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


CONTAINERS = sections(sections(COMPOSE, "")["services"], "  ")
COMMON = sections(COMPOSE, "")["x-service"]
ENVIRONMENT = sections(COMPOSE, "")["x-environment"]


def compose_number(pattern: str) -> int:
    found = re.search(pattern, COMPOSE)
    assert found, f"docker-compose.yml has no {pattern}"
    return int(found[1])


def health_test(service: str) -> str:
    """The command of a service's health check: its own, or the one that all share."""
    found = re.search(r"test: (\[.*\])", CONTAINERS[service]) or re.search(r"test: (\[.*\])", COMMON)
    assert found
    return found[1]


def probe(port: int) -> "subprocess.CompletedProcess[str]":
    """The health check as the container runs it."""
    command = [sys.executable, "-I", str(HEALTHCHECK), str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def answering(*, healthy: bool) -> ThreadingHTTPServer:
    return serve_health("127.0.0.1", 0, {"/healthz": lambda: {"broker": healthy}}, lambda: b"")


def end(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


def test_the_five_services_and_their_two_servers_are_deployed() -> None:
    """Nothing is missing, and nothing runs that is not spoken of; what sets the servers up ends before they start."""
    assert set(CONTAINERS) == {*SERVICES, *SERVERS, "setup"}
    assert "setup: { condition: service_completed_successfully }" in COMMON
    for command in ("shared.database_setup", "shared.broker_setup"):
        assert f"python -m {command}" in CONTAINERS["setup"]


def test_only_the_set_up_has_the_administrators_passwords() -> None:
    """With that of PostgreSQL a service could delete the record of operators' actions."""
    given = {name for name, text in CONTAINERS.items() if re.search(r"\$\{(POSTGRES|RABBITMQ)_PASSWORD\b", text)}
    assert given == {"setup", *SERVERS}
    assert not re.search(r"\$\{(POSTGRES|RABBITMQ)_PASSWORD\b", COMMON)


def test_health_and_metrics_are_answered_on_the_network_of_the_containers() -> None:
    """A Prometheus there can scrape them. None of these ports is published on the host."""
    assert "PAPERPROFIT_HEALTH_HOST: 0.0.0.0" in ENVIRONMENT
    for service in SERVICES:
        assert "<<: *environment" in CONTAINERS[service]
        assert ":8080" not in CONTAINERS[service]


def test_the_set_up_finds_the_roles_in_the_image() -> None:
    """It runs the file on every start, so that an upgrade of a database that exists changes the rights, too."""
    assert "COPY deploy/postgres/roles.sql deploy/postgres/roles.sql" in DOCKERFILE
    assert "!deploy/postgres/roles.sql" in (ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_built_from_its_own_folder_and_connects_as_its_own_role(service: str) -> None:
    """No service is given the password of another one's schema."""
    container = CONTAINERS[service]
    assert f"SERVICE: {service} " in container
    assert f"//paperprofit_{service}:${{{service.upper()}_PASSWORD}}@postgres/" in container
    assert f"amqp://paperprofit_{service}:${{{service.upper()}_RABBITMQ_PASSWORD:?" in container
    others = [f"{other.upper()}_{kind}" for other in SERVICES if other != service for kind in ("PASS", "RABBITMQ")]
    assert not [name for name in others if name in container]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_what_all_have(service: str) -> None:
    """Read-only, without capabilities, restarted, and stopped with time to finish."""
    assert "<<: *service" in CONTAINERS[service]
    for setting in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true", "restart: unless-stopped"):
        assert setting in COMMON


def test_a_container_is_given_longer_to_stop_than_its_workers_take() -> None:
    """Docker kills only what has not ended by itself."""
    assert compose_number(r"stop_grace_period: (\d+)s") * 1000 > SHUTDOWN_MS


@pytest.mark.parametrize("service", SERVICES)
def test_the_health_check_asks_the_service_itself(service: str) -> None:
    """Each asks the port on which that service answers /healthz."""
    port = ServiceSettings.model_fields["health_port"].default if service in WORKERS else 8000
    assert health_test(service) == f'["CMD", "python", "-I", "deploy/healthcheck.py", "{port}"]'


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_is_checked_before_a_service_starts(server: str) -> None:
    """The services wait for both servers to be healthy."""
    assert "healthcheck:" in CONTAINERS[server]
    assert f"{server}: {{ condition: service_healthy }}" in COMMON


def test_the_health_check_passes_where_all_works() -> None:
    """It exits 0 on the 200 of /healthz."""
    server = answering(healthy=True)
    try:
        found = probe(server.server_port)
    finally:
        end(server)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_health_check_fails_and_says_what_does_not_work() -> None:
    """It exits 1 on a 503, and its output, which the engine keeps, names the part."""
    server = answering(healthy=False)
    try:
        found = probe(server.server_port)
    finally:
        end(server)
    assert (found.returncode, found.stderr) == (1, "")
    assert '"broker": false' in found.stdout


def test_the_health_check_fails_where_nothing_answers() -> None:
    """It exits 1 with one line instead of a traceback."""
    server = answering(healthy=True)
    port = server.server_port
    end(server)
    found = probe(port)
    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout.startswith(f"nothing answers on port {port}")


def test_the_health_check_ends_a_service_that_was_live_and_hangs(tmp_path: Path) -> None:
    """Docker restarts what ends. A service that starts slowly is left alone, and so is one that lost its database."""
    check = runpy.run_path(str(HEALTHCHECK))
    missed = tmp_path / "missed"
    away: Checks = {"database": False}
    live = serve_health("127.0.0.1", 0, {"/livez": dict, "/healthz": lambda: away}, lambda: b"")
    hangs = serve_health("127.0.0.1", 0, {"/livez": lambda: {"threads": False}}, lambda: b"")
    code = "import subprocess as s; service = s.Popen(['sleep', '60']); print('up', flush=True); service.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as init:
        assert init.stdout
        init.stdout.readline()
        for _ in range(check["LOST"] + 1):
            assert check["main"](hangs.server_port, missed, init.pid) == 1
        assert check["main"](live.server_port, missed, init.pid) == 1
        for _ in range(check["LOST"] - 1):
            check["main"](hangs.server_port, missed, init.pid)
        assert init.poll() is None
        check["main"](hangs.server_port, missed, init.pid)
        assert init.wait(10) == 0, "its service has ended"
    end(live)
    end(hangs)


def test_everything_published_is_on_loopback() -> None:
    """No port of the host is open to its network unless an operator says so."""
    published = [
        port
        for ports in re.findall(r"ports: \[(.*?)\]$", COMPOSE, re.MULTILINE)
        for port in re.findall('"(.*?)"', ports)
    ]
    assert len(published) == COMPOSE.count("ports:") == 2
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_no_password_is_written_in_the_file() -> None:
    """Every secret comes from the environment, and none has a default. A provider's key may be missing."""
    secrets = re.findall(r"^\s+(?:\w*(?:PASS|PASSWORD|KEY|KEY_ID|SECRET)): (.*)$", COMPOSE, re.MULTILINE)
    secrets += re.findall(r"//\w+:(.*?)@", COMPOSE)
    assert len(secrets) == 21
    assert [secret for secret in secrets if not re.fullmatch(r"\$\{[A-Z_]+(:\?[^}]*|:-)?\}", secret)] == []


def test_only_marketdata_has_the_providers_settings_and_keys() -> None:
    """All of them but addresses for tests and proxies. Another service could not use them, and could leak them."""
    keyed = (AlphaVantageSettings, AlpacaSettings, PollSettings)
    names = {f"{each.model_config['env_prefix']}{field}".upper() for each in keyed for field in each.model_fields}
    names |= {f"PAPERPROFIT_{field}".upper() for field in Settings.model_fields}
    expected = {name for name in names if not name.endswith("URL")} - {"PAPERPROFIT_INSTRUMENTS_FILE"}
    passed = set(re.findall(r"^ +(PAPERPROFIT_\w+):", CONTAINERS["marketdata"], re.MULTILINE))
    assert expected <= passed
    others = "".join(text for name, text in CONTAINERS.items() if name != "marketdata") + ENVIRONMENT + COMMON
    assert [name for name in expected if re.search(rf"\b{name}\b", others)] == []


def test_the_defaults_of_providers_in_compose_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an empty .env marketdata starts as without any variable."""
    before = [each() for each in (Settings, AlphaVantageSettings, AlpacaSettings, PollSettings)]
    for name, default in re.findall(r"^ +(PAPERPROFIT_\w+): \$\{\w+:-(.*)\}$", CONTAINERS["marketdata"], re.MULTILINE):
        monkeypatch.setenv(name, default)
    assert [each() for each in (Settings, AlphaVantageSettings, AlpacaSettings, PollSettings)] == before


def test_make_env_writes_every_variable_that_compose_demands() -> None:
    """A first `make up` lacks nothing, and no two installations share a secret."""
    first, second = (
        dict(line.split("=", 1) for line in subprocess.check_output([ROOT / "deploy" / "make-env"], text=True).split())
        for _ in range(2)
    )
    assert set(first) == set(re.findall(r"\$\{([A-Z_]+)(?::\?[^}]*)?\}", COMPOSE))
    assert [name for name in first if first[name] == second[name]] == []
    assert len(set(first.values())) == len(first)


def test_make_env_adds_only_what_a_file_lacks(tmp_path: Path) -> None:
    """An installation of an earlier release keeps its passwords, and is given the new ones."""
    file = tmp_path / ".env"
    file.write_text("ORDERS_PASSWORD=kept\nPAPERPROFIT_API_KEY_ID=PKkept\n")
    added = subprocess.check_output([ROOT / "deploy" / "make-env", file], text=True)
    assert "ORDERS_RABBITMQ_PASSWORD=" in added
    assert "kept" not in added
    assert not re.search("^(ORDERS_PASSWORD|PAPERPROFIT_API_KEY_ID)=", added, re.MULTILINE)
    file.write_text(file.read_text() + added)
    assert subprocess.check_output([ROOT / "deploy" / "make-env", file], text=True) == ""


def test_no_container_runs_as_root() -> None:
    """The image ends as an ordinary user, and the servers are started as theirs."""
    final = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert re.findall(r"^USER (\w+)$", final, re.MULTILINE) == ["paperprofit"]
    assert [server for server in SERVERS if f"\n    user: {server}\n" not in CONTAINERS[server]] == []
    assert "user:" not in COMMON


def test_an_image_holds_one_service_only() -> None:
    """What is copied of services/ is the named one, with the package's own file."""
    copied = re.findall(r"^COPY (services\S*) ", DOCKERFILE, re.MULTILINE)
    assert copied == ["services/__init__.py", "services/${SERVICE}"]


def test_a_worker_thread_never_waits_for_a_connection() -> None:
    """The pool has one for each thread and for what runs beside the threads."""
    threads = sum(ServiceSettings.model_fields[name].default for name in ("threads", "background_threads"))
    assert "PAPERPROFIT_THREADS" not in COMPOSE
    assert compose_number(r"PAPERPROFIT_POOL_SIZE: (\d+)") >= threads + CONNECTIONS_BESIDE_THREADS


def test_two_replicas_of_every_service_fit_into_postgresql() -> None:
    """All pools filled to the brim stay below max_connections less what is reserved."""
    pool = compose_number(r"PAPERPROFIT_POOL_SIZE: (\d+)")
    processes = ServiceSettings.model_fields["processes"].default
    worker, gateway = processes * pool + SCHEDULER_POOL_SIZE, pool
    most = 2 * (len(WORKERS) * worker + gateway)
    assert most <= compose_number(r"max_connections=(\d+)") - RESERVED_CONNECTIONS


def test_postgresql_gives_up_a_client_that_vanished_as_the_embedded_one_does() -> None:
    """Otherwise its session keeps the locks of feed and relays, and nothing trades."""
    given = dict(re.findall(r"-c *(tcp_\w+)=(\d+)", CONTAINERS["postgres"]))
    assert given == {name: str(value) for name, value in TCP_OF_SERVER.items()}


@pytest.mark.parametrize(("server", "tested"), [("postgres", POSTGRES_IMAGE), ("rabbitmq", RABBITMQ_IMAGE)])
def test_a_server_is_pinned_to_the_minor_version_that_the_tests_take(server: str, tested: str) -> None:
    """Another image, such as a mirror's, is named by a variable."""
    assert f"image: ${{{server.upper()}_IMAGE:-{tested}}}" in CONTAINERS[server]
    assert re.match(r"\w+:\d+\.\d+", tested)
