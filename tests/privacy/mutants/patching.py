"""Loads one module of ours with some of its text replaced."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

__all__ = ["Edit", "StaleMutant", "install"]


class StaleMutant(Exception):  # noqa: N818 - reads as the fact it states
    """The text that a mutant replaces is not in our code, or not just once; the mutant must be written anew."""


class Edit(NamedTuple):
    """A replacement in the source of a module.

    Attributes:
        module: Dotted name.
        old: Text that is there exactly once.
        new: What stands there instead.
    """

    module: str
    old: str
    new: str


def install(edits: Sequence[Edit]) -> None:
    """Let later imports see the edits. Modules that are loaded already would not; they are refused."""
    by_module: dict[str, list[Edit]] = {}
    for edit in edits:
        if edit.module in sys.modules:
            raise StaleMutant(f"module={edit.module} must not be imported before it is edited")
        by_module.setdefault(edit.module, []).append(edit)
    sys.meta_path.insert(0, _Finder(by_module))


class _Finder(MetaPathFinder):
    def __init__(self, edits: dict[str, list[Edit]]) -> None:
        self._edits = edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._edits:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            raise StaleMutant(f"module={fullname} must exist")
        loader = _Edited(Path(found.origin), self._edits[fullname])
        return spec_from_loader(
            fullname, loader, origin=found.origin, is_package=found.submodule_search_locations is not None
        )


class _Edited(Loader):
    def __init__(self, path: Path, edits: Sequence[Edit]) -> None:
        self._path = path
        self._edits = edits

    def exec_module(self, module: ModuleType) -> None:
        text = self._path.read_text()
        for edit in self._edits:
            if text.count(edit.old) != 1:
                raise StaleMutant(
                    f"old={edit.old!r} must be in {edit.module} exactly once, not {text.count(edit.old)} times"
                )
            text = text.replace(edit.old, edit.new)
        module.__file__ = str(self._path)
        if module.__spec__ is not None and module.__spec__.submodule_search_locations is not None:
            module.__path__ = [str(self._path.parent)]
        exec(compile(text, str(self._path), "exec"), module.__dict__)
