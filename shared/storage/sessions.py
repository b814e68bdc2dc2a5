"""Settings of every PostgreSQL session that we open, and of its TCP connection, on both sides.

A peer that vanishes without a reset (a machine, a network) is given up after 10 to 15 s. Otherwise the kernel would
retry for many minutes, while the peer's session keeps its locks and a client waits for its answer.
"""

from psycopg.conninfo import make_conninfo

#: PostgreSQL compiles each execution of a statement that it expects to be expensive. Our statements are short, but the
#: planner settings of ``driver`` make cheap plans look expensive.
NO_JIT = "-c jit=off"

_IDLE_SECONDS = 5
_INTERVAL_SECONDS = 2
_COUNT = 3
#: Also while data is in flight, when the kernel sends no keepalives.
_UNANSWERED_MS = 10_000

#: Parameters of libpq: https://www.postgresql.org/docs/current/libpq-connect.html
TCP_OF_CLIENT = {
    "keepalives": 1,
    "keepalives_idle": _IDLE_SECONDS,
    "keepalives_interval": _INTERVAL_SECONDS,
    "keepalives_count": _COUNT,
    "tcp_user_timeout": _UNANSWERED_MS,
}
#: Settings of the server: https://www.postgresql.org/docs/current/runtime-config-connection.html
#: docker-compose.yml repeats them.
TCP_OF_SERVER = {
    "tcp_keepalives_idle": _IDLE_SECONDS,
    "tcp_keepalives_interval": _INTERVAL_SECONDS,
    "tcp_keepalives_count": _COUNT,
    "tcp_user_timeout": _UNANSWERED_MS,
}


def session_info(conninfo: str) -> str:
    """The connection string with our settings, for a session without an engine."""
    return make_conninfo(conninfo, options=NO_JIT, **TCP_OF_CLIENT)
