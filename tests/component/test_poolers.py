"""A pooler before PostgreSQL: each start refuses it with one line that says what to do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from embedded.free_port import free_port
from shared.bus.unit_of_work import ServiceContext
from shared.service import wait_for_database
from shared.storage.engine import PoolerRefused, make_engine
from shared.storage.migrate import ROOT
from tests.servers.choice import takes_connections
from tests.support import eventually

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
CONFIG = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = extra_float_digits{ignored}
"""


@pytest.fixture
def pooled(postgres: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    """A superuser's URL that leads through PgBouncer in the given mode, with these parameters ignored."""
    mode, ignored = request.param
    direct, listen, config = make_url(postgres), free_port(), tmp_path / "pgbouncer.ini"
    config.write_text(
        CONFIG.format(
            host=direct.host,
            port=direct.port,
            user=direct.username,
            password=direct.password,
            listen=listen,
            mode=mode,
            ignored=ignored,
        )
    )
    if os.geteuid() == 0:  # PgBouncer does not run as root
        tmp_path.chmod(0o777)
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [PGBOUNCER, *as_user, str(config)]
    with (tmp_path / "log").open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            pooled = direct.set(host="127.0.0.1", port=listen, query={})
            plain = pooled.set(drivername="postgresql").render_as_string(hide_password=False)
            eventually(lambda: takes_connections(plain), what="PgBouncer takes connections")
            yield pooled
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("pooled", "detail"),
    [
        (("transaction", ""), "it takes no startup options"),
        (("transaction", ", options"), "statement_timeout is 0"),
        (("session", ", options"), "statement_timeout is 0"),
    ],
    indirect=["pooled"],
)
def test_a_start_behind_pgbouncer_is_refused_with_what_to_do(pooled: URL, detail: str) -> None:
    """A service does not wait for a database that will never come, and the set-up says the same."""
    url = pooled.render_as_string(hide_password=False)
    engine = make_engine(url, name="orders", pool_size=1)
    with pytest.raises(PoolerRefused, match="name PostgreSQL itself") as refused:
        wait_for_database(ServiceContext("orders", engine), seconds=60)
    engine.dispose()
    assert detail in str(refused.value)
    assert "\n" not in str(refused.value)
    environment = {"PATH": os.environ["PATH"], "PAPERPROFIT_DATABASE_URL": url}
    command = [sys.executable, "-m", "shared.database_setup"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "name PostgreSQL itself" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
