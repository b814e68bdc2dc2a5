"""Arrays of numpy as PostgreSQL's binary arrays, for ``shared.storage.driver``. Nothing is done element by element."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import pack
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shared.indicators.bars import Array, Times

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
#: PostgreSQL's epoch, in microseconds since 1970.
_EPOCH = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
#: PostgreSQL's numbers of the element types.
_UUID, _TIMESTAMPTZ, _FLOAT8 = 2950, 1184, 701


def uuids(ids: Sequence[UUID], counts: Sequence[int]) -> bytes:
    """Encode the ids, each of them as often as its count says."""
    given = np.frombuffer(b"".join([each.bytes for each in ids]), dtype="V16")
    return _encoded(_UUID, "V16", np.repeat(given, counts))


def times(values: Times) -> bytes:
    return _encoded(_TIMESTAMPTZ, ">i8", values - _EPOCH)


def floats(values: Array) -> bytes:
    return _encoded(_FLOAT8, ">f8", values)


def microseconds(at: datetime) -> int:
    """Return a time in microseconds since 1970 UTC."""
    return (at - EPOCH) // MICROSECOND


def time_of(value: int) -> datetime:
    return EPOCH + value * MICROSECOND


def _encoded(oid: int, kind: str, values: NDArray[Any]) -> bytes:
    """Put the length of each element before it, and the shape of the array before all."""
    elements = np.empty(len(values), dtype=[("length", ">i4"), ("value", kind)])
    elements["length"] = elements.dtype["value"].itemsize
    elements["value"] = values
    return pack("!iiiii", 1, 0, oid, len(values), 1) + elements.tobytes()
