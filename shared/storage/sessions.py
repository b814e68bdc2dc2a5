"""Settings of every PostgreSQL session that we open, and of its TCP connection, on both sides."""

from psycopg.conninfo import make_conninfo

from shared import tcp

#: PostgreSQL compiles each execution of a statement that it expects to be expensive. Our statements are short, but the
#: planner settings of ``driver`` make cheap plans look expensive.
NO_JIT = "-c jit=off"

#: Parameters of libpq: https://www.postgresql.org/docs/current/libpq-connect.html
TCP_OF_CLIENT = {
    "connect_timeout": tcp.CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": tcp.IDLE_SECONDS,
    "keepalives_interval": tcp.INTERVAL_SECONDS,
    "keepalives_count": tcp.COUNT,
    "tcp_user_timeout": tcp.UNANSWERED_MS,
}
#: Settings of the server: https://www.postgresql.org/docs/current/runtime-config-connection.html
#: docker-compose.yml repeats them.
TCP_OF_SERVER = {
    "tcp_keepalives_idle": tcp.IDLE_SECONDS,
    "tcp_keepalives_interval": tcp.INTERVAL_SECONDS,
    "tcp_keepalives_count": tcp.COUNT,
    "tcp_user_timeout": tcp.UNANSWERED_MS,
}


def session_info(conninfo: str) -> str:
    """The connection string with our settings, for a session without an engine."""
    return make_conninfo(conninfo, options=NO_JIT, **TCP_OF_CLIENT)
