"""Ask ``GET /healthz`` on the given port and print the answer. Exits with 0 where the service is healthy."""  # noqa: INP001 - run, not imported

import http.client
import sys

TIMEOUT_SECONDS = 4


def main(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        print(answer.read().decode())  # noqa: T201 - `docker inspect` shows it
    except OSError as error:
        print(f"nothing answers on port {port}: {error}")  # noqa: T201
        return 1
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
