"""Values as records hold them: rounded, and only of types that JSON has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard


def seconds(value: float) -> float | None:
    """A time in seconds to the millisecond, finer than any camera's clock; None for NaN."""
    return number(value, 3)


def number(value: float, digits: int) -> float | None:
    """A number rounded to some digits; None if it is not finite."""
    return round(float(value), digits) if math.isfinite(value) else None


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value read from JSON is a number; true and false are none, other than in Python."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(value: Any) -> Any:  # noqa: ANN401
    """A value as JSON can hold it: NumPy's numbers as Python's, NaN as None.

    In texts, halves of characters (surrogates, as in names that are not UTF-8) are escaped: many
    programs read no JSON that has them.
    """
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value
