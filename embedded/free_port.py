"""Free ports on loopback for our own servers."""

import contextlib
import random
import socket

#: Below those that the system gives to outgoing connections: a server that is restarted finds its own port again.
_FIRST, _LAST = 15_000, 32_000
#: Not the shared one, which tests give a seed: two processes would then ask for the same ports.
_random = random.SystemRandom()


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Distinct free ports, held until all are known."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            port = _random.randint(_FIRST, _LAST)
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
    return ports
