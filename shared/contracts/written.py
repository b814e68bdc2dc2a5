"""Numbers, JSON and text as they are written, with the bounds that HTTP, the settings and the bus share.

The text is checked before a number is made of it: ``1e9999999`` is a small ``Decimal``, and megabytes in plain
notation.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

#: The characters of a number: enough for what Python and PostgreSQL compute of money, prices and rates.
LENGTH = 128
#: The largest exponent, and the largest power of ten in a number.
EXPONENT = 30
LARGEST = Decimal(10) ** EXPONENT
#: ASCII digits without blanks, underscores and a plus sign.
NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?(0?[0-9]|[12][0-9]|30))?$"
WHOLE_NUMBER = r"^-?[0-9]+$"
#: Levels of arrays and objects in each other.
DEPTH = 32
#: Text without invisible characters: controls, separators of lines, marks of direction, and those without width.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]*$"

_NUMBER = re.compile(NUMBER.removesuffix("$"))
_NO_NUMBER = f"is not a decimal number of at most {LENGTH} characters, or is a float: send decimal numbers as strings"
_NO_WHOLE = f"is not a whole number of at most {LENGTH} digits"

#: Text that people read. PostgreSQL cannot store a NUL, and a mark of direction shows another text than the stored one.
Printable = Annotated[str, Field(pattern=PRINTABLE)]


def check_number(text: str) -> str:
    """Return the text of a number. Raises ValueError if it is none, or its length or exponent is beyond the bounds."""
    if len(text) > LENGTH or not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:LENGTH]!r} {_NO_NUMBER}")
    return text


def check_decimal(number: Decimal) -> Decimal:
    """Return the number. Raises ValueError if ``check_number`` refuses its text."""
    check_number(str(number))
    return number


@dataclass(frozen=True)
class Bounded:
    """The bounds of a ``Decimal``, ``int`` or ``float``, and of the text that one of them may be read from.

    All checks run in pydantic's compiled core, because prices come by the thousand. Only a Decimal that is given as
    such is checked in Python, and not even that where it is ``computed`` by this system. A Decimal that has been a
    float is refused, since it has lost digits.
    """

    gt: Decimal | float | None = None
    ge: Decimal | float | None = None
    lt: Decimal | float | None = None
    le: Decimal | float | None = None
    decimal_places: int | None = None
    computed: bool = False

    def __get_pydantic_core_schema__(self, source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        pattern, message = (WHOLE_NUMBER, _NO_WHOLE) if source is int else (NUMBER, _NO_NUMBER)
        forms: list[CoreSchema] = [core_schema.str_schema(strict=True, max_length=LENGTH, pattern=pattern), _INTEGER]
        if source is Decimal:
            given = core_schema.is_instance_schema(Decimal)
            forms.append(given if self.computed else core_schema.no_info_after_validator_function(check_decimal, given))
        elif source is float:
            forms.append(core_schema.float_schema(strict=True))
        written = core_schema.union_schema(
            list(forms), mode="left_to_right", custom_error_type="number", custom_error_message=message
        )
        return core_schema.chain_schema([written, self._number(source)])

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        chain: Any = schema
        while "steps" not in chain:  # the default of a field is around it
            chain = chain["schema"]
        number = handler(chain["steps"][-1])
        if "anyOf" not in number or handler.mode == "serialization":
            return number
        of_json, of_text = number["anyOf"]
        return {"anyOf": [of_json, {**of_text, "maxLength": LENGTH, "pattern": NUMBER}]}

    def _number(self, source: Any) -> CoreSchema:
        bounds: dict[str, Any] = {name: getattr(self, name) for name in ("gt", "ge", "lt", "le")}
        if source is int:
            return core_schema.int_schema(**bounds)
        if source is float:
            return core_schema.float_schema(allow_inf_nan=False, **bounds)
        if source is not Decimal:
            raise TypeError(f"{source} is not a number")
        low = self.ge if self.ge is not None or self.gt is not None else -LARGEST
        high = self.le if self.le is not None or self.lt is not None else LARGEST
        bounds |= {"ge": low, "le": high}
        exact: dict[str, Any] = {name: None if bound is None else Decimal(bound) for name, bound in bounds.items()}
        return core_schema.decimal_schema(allow_inf_nan=False, decimal_places=self.decimal_places, **exact)


_INTEGER = core_schema.int_schema(strict=True, ge=-(10**LENGTH), le=10**LENGTH)


def read_json(data: bytes | bytearray, *, real: Callable[[str], Any] | None = None) -> Any:
    """Parse JSON in UTF-8. ``real`` makes a number of the text of one with a fraction or an exponent.

    By default that is a Decimal within the bounds. A float needs none: it has eight bytes, and no contract takes it.

    Raises ValueError for other text, for NaN and Infinity, a number or a depth beyond the bounds, a name that an object
    has twice, and one with a lone surrogate.
    """
    text = data.decode("utf-8")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=real or _decimal,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if data.count(b"[") + data.count(b"{") > DEPTH:
        _check_depth(value)
    if b"\\" in data and re.search(r"\\u[dD]", text):
        _check_names(value)
    return value


_TOO_DEEP = f"must not have more than {DEPTH} levels of arrays and objects"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an object has the same name twice")
    return fields


def _whole(text: str) -> int:
    """Return the number of a JSON integer, whose characters the parser has checked."""
    if len(text) > LENGTH:
        check_number(text)
    return int(text)


def _decimal(text: str) -> Decimal:
    return Decimal(check_number(text))


def _refuse_constant(name: str) -> None:
    """Raise ValueError for NaN and Infinity, which Python's parser would accept."""
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH):
        inner: list[Any] = []
        for outer in level:
            if type(outer) is dict:
                inner += [each for each in outer.values() if type(each) is dict or type(each) is list]
            elif type(outer) is list:
                inner += [each for each in outer if type(each) is dict or type(each) is list]
        level = inner
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _check_names(value: Any) -> None:
    """Raise ValueError if a name cannot be encoded. An error could not repeat it. Fields check their own text."""
    if isinstance(value, dict):
        "".join(value).encode()
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_names(each)
