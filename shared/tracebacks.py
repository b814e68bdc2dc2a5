"""The text of an error for operators: a traceback of bounded size, without data and without links.

SQLAlchemy adds the statement, its parameters and a link to each error, and pydantic a link. None of them is kept: the
parameters are clients' data, and a link says nothing about what happened.
"""

import re
import traceback

#: Most characters of a traceback.
LONGEST = 20_000
_ADDED = (
    re.compile(r"\n\[SQL: .*?\n\(Background on this error at: [^\n]*\)", re.DOTALL),
    re.compile(r"\n\[(?:SQL|parameters): .*?(?=\n\n|\Z)", re.DOTALL),
    re.compile(
        r"\n\(Background on this error at: [^\n]*\)|\n *For further information visit https://errors\.pydantic\S*"
    ),
)
HIDDEN = "***"
NAMES_TO_HIDE = r"passw(?:or)?d|secret|token|authori[sz]ation|api[_-]?key|credential|cookie|private[_-]?key"
#: A user:password before a host. The lengths are bounded, so that no text takes long to search.
_IN_URL = re.compile(r"(?<=://)([^\s/@:]{0,100}):[^\s/]{1,200}@")
_ASSIGNED = re.compile(
    rf"((?:{NAMES_TO_HIDE})[\w-]{{0,30}}[\"']?\s{{0,3}}[=:]\s{{0,3}})(?:(?:bearer|basic)\s{{1,3}})?"
    r"(?:b?\"(?:[^\"\\]|\\.){0,500}\"?|b?'(?:[^'\\]|\\.){0,500}'?|[^\s,;&)}\]\"']{1,500})",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """The text without passwords, and without characters that PostgreSQL cannot store."""
    storable = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return _ASSIGNED.sub(rf"\1{HIDDEN}", _IN_URL.sub(rf"\1:{HIDDEN}@", storable))


def traceback_of(error: BaseException, most: int = LONGEST) -> str:
    """The traceback as PostgreSQL can store it, its beginning and its end where it is long.

    Its last line says what happened. Further lines of the last error's text, such as PostgreSQL's details, stand above.
    """
    whole = "".join(traceback.format_exception(error))
    last = "".join(traceback.format_exception_only(error))
    first, *further = _plain(last, most).rstrip("\n").split("\n")
    head = _plain(whole.removesuffix(last), most)
    return shortened("".join([head, *(f"  {line}\n" for line in further if line.strip()), first, "\n"]), most)


def shortened(text: str, most: int = LONGEST) -> str:
    """The text as PostgreSQL can store it, its beginning and its end where it is long."""
    storable = text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    if len(storable) <= most:
        return storable
    half = most // 2
    return f"{storable[:half]}\n[{len(storable) - 2 * half} characters left out]\n{storable[-half:]}"


def _plain(text: str, most: int) -> str:
    """The text of errors without what the libraries add to it."""
    text = shortened(text, 2 * most)  # so that the search takes no long time
    for added in _ADDED:
        text = added.sub("", text)
    return text
