"""A test client that asserts that every response is one that the OpenAPI document describes."""

import re
from functools import cache
from typing import Any

import httpx2
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from services.gateway.app import ENDPOINTS
from services.gateway.http.openapi import document

Json = dict[str, Any]
DOCUMENT = document(ENDPOINTS)


class DocumentedClient(TestClient):
    """A client whose responses are checked against the document."""

    def request(self, *arguments: Any, **options: Any) -> httpx2.Response:
        answer = super().request(*arguments, **options)
        assert undocumented(answer) == []
        return answer


def undocumented(answer: httpx2.Response) -> list[str]:
    """Return the differences between the response and the document."""
    operation = operation_of(answer.request.method, answer.request.url.path.rstrip("/"))
    if operation is None:
        return [] if answer.status_code in {400, 404, 405} else [f"{answer.request.url.path} is not documented"]
    described = operation["responses"].get(str(answer.status_code))
    if described is None:
        return [f"{answer.request.url.path} must not return {answer.status_code}: {answer.text}"]
    if "content" not in described:
        return [f"the response must be empty: {answer.text}"] if answer.content else []
    media = answer.headers["content-type"].partition(";")[0]
    if media not in described["content"]:
        return [f"{media} is not one of {list(described['content'])}"]
    if not media.endswith("json") and media != "image/svg+xml":
        return []
    content = answer.json() if media.endswith("json") else answer.text
    return faults(content, described["content"][media]["schema"])


def operation_of(method: str, path: str) -> Json | None:
    """Return the operation of the first path that matches, or None. Routes are tried in this order, too."""
    for template, operations in DOCUMENT["paths"].items():
        if method.lower() in operations and _pattern(template).fullmatch(path):
            found: Json = operations[method.lower()]
            return found
    return None


def faults(value: Any, schema: Json) -> list[str]:
    """Return the errors of a value against a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """A symbol may hold a slash."""
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template).replace(r"\{symbol\}", ".+")))
