"""Argument checks that write their own messages: `positive(ttl_seconds=0)` names the value and the rule."""

from dayfly.privacy.errors import InvalidArgument

__all__ = ["in_range", "not_negative", "positive"]


def _only(values: dict[str, int]) -> tuple[str, int]:
    ((name, value),) = values.items()
    return name, value


def positive(**values: int) -> int:
    """Return the one keyword's value when it is above zero, else raise `InvalidArgument`."""
    name, value = _only(values)
    if value <= 0:
        raise InvalidArgument(f"{name}={value!r} must be > 0; pass a larger {name}")
    return value


def not_negative(**values: int) -> int:
    """Return the one keyword's value when it is zero or more, else raise `InvalidArgument`."""
    name, value = _only(values)
    if value < 0:
        raise InvalidArgument(f"{name}={value!r} must be >= 0; pass {name}=0 or more")
    return value


def in_range(low: int, high: int, **values: int) -> int:
    """Return the one keyword's value when it lies in `[low, high]`, else raise `InvalidArgument`."""
    name, value = _only(values)
    if not low <= value <= high:
        raise InvalidArgument(f"{name}={value!r} must lie in [{low}, {high}]; pass a value inside")
    return value
