"""`__all__` of every package is what the package offers."""

import importlib
import pkgutil
from types import ModuleType

import pytest

from . import FOLDERS, PORTIONS


def packages() -> list[str]:
    """Import names of the portions and all packages in them."""
    found = []
    for portion in PORTIONS:
        prefix = f"dayfly.{portion}"
        found.append(prefix)
        found += [
            info.name for info in pkgutil.walk_packages([str(FOLDERS[portion])], f"{prefix}.") if info.ispkg
        ]
    return found


def offered(module: ModuleType) -> set[str]:
    """Public names that Dayfly itself put there: no submodules and nothing borrowed from other libraries."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "dayfly").split(".")[0] == "dayfly"
    }


@pytest.mark.parametrize("name", packages())
def test_all_lists_exactly_what_is_there(name: str) -> None:
    package = importlib.import_module(name)
    listed = list(getattr(package, "__all__", []))
    assert len(listed) == len(set(listed))  # ruff sorts them
    assert [entry for entry in listed if not hasattr(package, entry)] == []
    assert offered(package) - set(listed) == set()


def test_a_public_name_left_out_would_be_seen() -> None:
    module = ModuleType("dayfly.sample")
    module.LIMIT = 3  # type: ignore[attr-defined]
    module.importlib = importlib  # type: ignore[attr-defined]
    module.raises = pytest.raises  # type: ignore[attr-defined]
    module._hidden = 1  # type: ignore[attr-defined]
    assert offered(module) == {"LIMIT"}
