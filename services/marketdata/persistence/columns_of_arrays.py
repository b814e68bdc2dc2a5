"""Arrays of numpy as PostgreSQL's binary arrays, for ``shared.storage.driver``. Nothing is done element by element."""

from datetime import UTC, datetime, timedelta
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.indicators.bars import Array, Times

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
#: Later than any bar.
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
#: PostgreSQL's epoch, in microseconds since 1970.
_EPOCH = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
#: PostgreSQL's numbers of the element types.
_BIGINT, _TIMESTAMPTZ, _FLOAT8 = 20, 1184, 701


def integers(values: NDArray[np.int64]) -> bytes:
    return _encoded(_BIGINT, ">i8", values)


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
