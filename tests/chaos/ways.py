"""The ways from the services to their servers, on which packets can be dropped, and the database moved."""

from pathlib import Path

from sqlalchemy import URL, make_url

from tests.servers.proxy import Proxy

#: A host name for libpq. Its file of services gives the address, and is read at each connect, as DNS is for others.
NAME = "database-of-the-fleet"


class WayToPostgres:
    """``file`` is libpq's PGSERVICEFILE: https://www.postgresql.org/docs/current/libpq-pgservice.html."""

    def __init__(self, file: Path, url: str) -> None:
        self.file = file
        parts = make_url(url)
        self._server = (str(parts.host), int(parts.port or 5432))
        self._proxies: list[Proxy] = []
        self._point_to_new_address()

    def url(self, url: str) -> str:
        """The URL of a service, with the name for the address."""
        of = make_url(url)
        named = URL.create(of.drivername, of.username, of.password, database=of.database, query={"service": NAME})
        return named.render_as_string(hide_password=False)

    def drop(self) -> None:
        """The server vanishes, as its clients vanish for it."""
        self._proxies[-1].drop()

    def accept(self) -> None:
        self._proxies[-1].accept()

    def move(self) -> None:
        """The server comes back under another address. Nothing ever answers under the former one."""
        self.drop()
        self._point_to_new_address()

    def _point_to_new_address(self) -> None:
        self._proxies.append(Proxy(self._server))
        new = self.file.with_suffix(".new")
        new.write_text(f"[{NAME}]\nhost=127.0.0.1\nport={self._proxies[-1].port}\n")
        new.replace(self.file)

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
