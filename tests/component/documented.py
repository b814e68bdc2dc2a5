"""A client that holds the gateway to its own document: each answer must be one that the document describes."""

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
    def request(self, *arguments: Any, **options: Any) -> httpx2.Response:
        answer = super().request(*arguments, **options)
        assert undocumented(answer) == []
        return answer


def undocumented(answer: httpx2.Response) -> list[str]:
    """What the document does not say of this answer."""
    operation = operation_of(answer.request.method, answer.request.url.path)
    if operation is None:
        return [] if answer.status_code in {400, 404, 405} else [f"nothing is said of {answer.request.url.path}"]
    told = operation["responses"].get(str(answer.status_code))
    if told is None:
        return [f"{answer.request.url.path} may not answer {answer.status_code}: {answer.text}"]
    if "content" not in told:
        return [f"{answer.text} is not nothing"] if answer.content else []
    media = answer.headers["content-type"].partition(";")[0]
    if media not in told["content"]:
        return [f"{media} is none of {list(told['content'])}"]
    return faults(answer.json(), told["content"][media]["schema"])


def operation_of(method: str, path: str) -> Json | None:
    """The operation of the first path that matches, as the routes are tried in their order."""
    for template, operations in DOCUMENT["paths"].items():
        if method.lower() in operations and _pattern(template).fullmatch(path):
            found: Json = operations[method.lower()]
            return found
    return None


def faults(value: Any, schema: Json) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """A symbol may hold a slash."""
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template).replace(r"\{symbol\}", ".+")))
