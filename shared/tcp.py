"""Limits of every TCP connection to PostgreSQL and RabbitMQ, on both sides.

A peer that vanishes without a reset (a machine, a network) is given up after 10 to 15 s. Otherwise the kernel would
retry for many minutes, while the peer's session keeps its locks and a client waits for its answer.
"""

#: A connection without traffic for this long is probed.
IDLE_SECONDS = 5
INTERVAL_SECONDS = 2
COUNT = 3
#: Also while data is in flight, when the kernel sends no keepalives.
UNANSWERED_MS = 10_000
#: To establish a connection to one address.
CONNECT_SECONDS = 5
