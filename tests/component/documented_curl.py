"""A ``curl`` for the examples of the documents: it sends the request and appends the answer to a file of JSON lines.

It knows the options that the documents use and refuses any other, so an example works with the real one.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data")
    parser.add_argument("url")
    asked = parser.parse_args()
    method = asked.request or ("POST" if asked.data else "GET")
    request = urllib.request.Request(asked.url, asked.data and asked.data.encode(), method=method)  # noqa: S310
    for header in asked.header:
        name, _, value = header.partition(": ")
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    line = {"method": method, "path": request.selector, "status": status, "body": body.decode()}
    with Path(os.environ["CURL_ANSWERS"]).open("a", encoding="utf-8") as answers:
        answers.write(json.dumps(line) + "\n")
    sys.stdout.write(body.decode() + "\n")


if __name__ == "__main__":
    main()
