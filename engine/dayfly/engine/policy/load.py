"""Policy folders to one frozen `Policy`, and every finding about them with file, line and column."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final

from msgspec import to_builtins

from dayfly.engine.errors import PolicyError

from .context import Context
from .declarations import (
    read_catalog,
    read_channels,
    read_mappings,
    read_settings,
    read_taxonomies,
    read_transfers,
)
from .model import Policy
from .problems import Problem
from .schema import KINDS
from .tag_rules import read_tags
from .trigger_rules import read_contradictions, read_triggers
from .yaml_source import LocatedDocument, read_yaml

__all__ = [
    "check_folder",
    "example_policy_folder",
    "load_policy",
    "policy_from_documents",
    "policy_from_source",
]

MAX_FILES: Final = 1_000
_SUFFIXES: Final = (".yaml", ".yml", ".json")


def load_policy(folder: FilePath, *, version: int) -> Policy:
    """The policy that the YAML files of a folder and its subfolders declare.

    Args:
        folder: Folder with files of the form that `policy.schema.json` describes.
        version: Version of this publication; must rise with each.

    Raises:
        PolicyError: one or more findings; `problems` holds all of them.
    """
    policy, problems = _read_folder(FilePath(folder), version)
    if policy is None or problems:
        raise _refusal(problems)
    return policy


def check_folder(folder: FilePath) -> tuple[Problem, ...]:
    """Everything that stands against the policy in a folder, in the order of files and lines; empty when it can be loaded."""
    return _read_folder(FilePath(folder), 1)[1]


def policy_from_documents(
    documents: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, version: int
) -> Policy:
    """The policy that documents in memory declare: a list of them, or content by kind.

    Raises:
        PolicyError: one or more findings; `problems` holds all of them.
    """
    listed = documents
    if isinstance(documents, Mapping):
        listed = [{"kind": kind, **content} for kind, content in documents.items()]
    located = [LocatedDocument(f"documents[{at}]", _plain(body)) for at, body in enumerate(listed)]
    policy, problems = _build(located, version)
    if policy is None or problems:
        raise _refusal(problems)
    return policy


def policy_from_source(source: bytes) -> Policy:
    """The identical policy from `Policy.source`.

    Raises:
        PolicyError: not such bytes, or documents that this version refuses.
    """
    try:
        content = json.loads(source)
        version, documents = content["version"], content["documents"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PolicyError(
            f"source of {len(source)} bytes must be Policy.source; pass it unchanged"
        ) from error
    if not isinstance(version, int) or not isinstance(documents, list):
        raise PolicyError(f"source of {len(source)} bytes must be Policy.source; pass it unchanged")
    return policy_from_documents(documents, version=version)


def example_policy_folder() -> FilePath:
    """Folder of the furniture retailer's policy that ships with the package."""
    return FilePath(str(files("dayfly.engine.examples") / "furniture"))


def _read_folder(folder: FilePath, version: int) -> tuple[Policy | None, tuple[Problem, ...]]:
    if not folder.is_dir():
        return None, (
            Problem(str(folder), 0, 0, f"folder={str(folder)!r} must be a folder; pass the policy's folder"),
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    if not paths or len(paths) > MAX_FILES:
        rule = f"folder={str(folder)!r} must hold 1 to {MAX_FILES} files ({' '.join(_SUFFIXES)}), it has {len(paths)}"
        return None, (Problem(str(folder), 0, 0, f"{rule}; add policy files or pass another folder"),)
    documents: list[LocatedDocument] = []
    problems: list[Problem] = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            content = path.read_bytes()
        except OSError as error:
            problems.append(
                Problem(name, 0, 0, f"file must be readable: {error.strerror}; fix its permissions")
            )
            continue
        found, wrong = read_yaml(name, content)
        documents.extend(found)
        problems.extend(wrong)
    policy, more = _build(documents, version, complete=not problems)
    return policy, tuple(sorted({*problems, *more}))


def _build(
    documents: Sequence[LocatedDocument], version: int, *, complete: bool = True
) -> tuple[Policy | None, tuple[Problem, ...]]:
    context = Context(sorted(documents, key=_order), complete)
    context.check_shapes()
    read_taxonomies(context)
    context.settings = read_settings(context)
    channels = read_channels(context)
    context.catalog = read_catalog(context, channels)
    mappings = read_mappings(context, context.catalog)
    tags = read_tags(context)
    triggers = read_triggers(context, tags)
    contradictions = read_contradictions(context, triggers)
    table = read_transfers(context)
    if context.complete and not any(True for _ in context.of_kind("catalog")):
        context.problems.append(
            Problem("", 0, 0, "catalog must be declared; add a document with kind: catalog")
        )
    if context.problems:
        return None, tuple(sorted(set(context.problems)))
    canonical = _canonical([document.data for document in context.documents])
    policy = Policy(
        version=version,
        catalog=context.catalog,
        channels=channels,
        tags=tags,
        triggers=triggers,
        contradictions=contradictions,
        settings=context.settings,
        mappings=mappings,
        transfers=tuple(MappingProxyType(to_builtins(row)) for row in table.rows)
        if table is not None
        else (),
        transfer_table=table,
        purposes=MappingProxyType(context.purposes),
        topics=MappingProxyType(context.topics),
        data_categories=MappingProxyType(context.data_categories),
        source=b'{"version":%d,"documents":%b}' % (version, canonical),
        digest=sha256(canonical).digest(),
    )
    return policy, ()


def _order(document: LocatedDocument) -> int:
    """Documents stand in the order of their kinds; within a kind, in the order of files and lines."""
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def _canonical(documents: list[Any]) -> bytes:
    return json.dumps(documents, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    """Maps and sequences of any kind as dictionaries and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _refusal(problems: tuple[Problem, ...]) -> PolicyError:
    shown = "\n".join(str(problem) for problem in problems[:20])
    more = f"\n... and {len(problems) - 20} more" if len(problems) > 20 else ""
    return PolicyError(
        f"policy must have no problems, it has {len(problems)}; correct them:\n{shown}{more}",
        problems=problems,
    )
