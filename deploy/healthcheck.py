"""Ask the service on the given port for its health, and print the answer. Exits with 0 where the service is healthy.

A service that was live and then fails ``GET /livez`` LOST times in a row is killed: it was stopped, or it hangs. Docker
restarts only a container that ends.
"""  # noqa: INP001 - run, not imported

import http.client
import os
import signal
import sys
from pathlib import Path

TIMEOUT_SECONDS = 4
LOST = 6
#: How often ``/livez`` failed in a row. Written once the service was live, and gone when its container starts again.
MISSED = Path("/tmp/paperprofit-missed")  # noqa: S108 - the container's own
#: The container's init. The service is its child.
INIT = 1


def main(port: int, missed: Path = MISSED, init: int = INIT) -> int:
    live, _ = ask(port, "/livez")
    if live or missed.exists():
        count = 0 if live else int(missed.read_text()) + 1
        missed.write_text(str(count))
        if count >= LOST:
            kill_children(init)
    healthy, answer = ask(port, "/healthz")
    print(answer)  # noqa: T201 - `docker inspect` shows it
    return 0 if healthy else 1


def ask(port: int, path: str) -> tuple[bool, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == http.client.OK, answer.read().decode()
    except OSError as error:
        return False, f"nothing answers on port {port}: {error}"
    finally:
        connection.close()


def kill_children(parent: int) -> None:
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        print(f"killing process {pid}, which is not live")  # noqa: T201
        os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
