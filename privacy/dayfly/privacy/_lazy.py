"""Names that a package offers and imports when they are first used (PEP 562), so that importing it stays cheap."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["loader"]


def loader(package: str, homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """A module's `__getattr__` that finds names where they are defined.

    Type checkers must not see it, because a module with a `__getattr__` has every name for them: assign it in the
    ``else`` of ``if typing.TYPE_CHECKING``.

    Args:
        package: `__name__` of the package.
        homes: Import name of a module -> the names that the package offers from it.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def load(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)
        return getattr(import_module(home), name)

    return load
