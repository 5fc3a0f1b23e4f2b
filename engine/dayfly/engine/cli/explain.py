"""`dayfly explain`: why does the CRM see this?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import ExitCode, fail, guarded
from .output import print_json, screen

if TYPE_CHECKING:
    from dayfly.engine.lineage import FragmentLineage, LineageStore

__all__ = ["explain"]

_ID = "Id of a fragment (jti) or of its order, as in fragments.jsonl."


@guarded
def explain(
    *,
    fragment_id: Annotated[str, typer.Argument(metavar="FRAGMENT_ID", help=_ID)],
    field: Annotated[
        str | None, typer.Argument(metavar="FIELD", help="One field; all of them by default.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder that a run left.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    openlineage: Annotated[
        bool, typer.Option("--openlineage", help="An OpenLineage run event (JSON).")
    ] = False,
    prov: Annotated[bool, typer.Option("--prov", help="A W3C PROV document (PROV-JSON).")] = False,
) -> None:
    """Explain the fields of a fragment: events, rules, masking and consent behind each. Shows no value.

    Example: dayfly explain HYJjDm37nBIvS1jJt5wb1w materials --out demo-out
    """
    from dayfly.engine.errors import LineageError  # noqa: PLC0415 - only commands load the engine
    from dayfly.engine.lineage import to_openlineage, to_prov  # noqa: PLC0415 - as above

    if as_json + openlineage + prov > 1:
        fail("output must be one of --json, --openlineage and --prov; choose one")
    if field is not None and (openlineage or prov):
        fail(f"field={field!r} must be left out with --openlineage and --prov, which tell the whole fragment")
    store = _open(out)
    try:
        fragment = store.fragment(_jti(store, fragment_id))
        if openlineage or prov:
            print_json(to_openlineage(fragment) if openlineage else to_prov(fragment))
        else:
            _explanations(store, fragment, field, as_json=as_json)
    except LineageError as error:
        fail(str(error), ExitCode.NO)
    finally:
        store.close()


def _explanations(
    store: "LineageStore", fragment: "FragmentLineage", field: str | None, *, as_json: bool
) -> None:
    from dayfly.engine.lineage import sentence, to_json, to_table  # noqa: PLC0415 - see `explain`

    found = store.explain_all(fragment.jti) if field is None else (store.explain(fragment.jti, field),)
    if as_json:
        print_json({"jti": fragment.jti, "fields": [to_json(item) for item in found]})
        return
    console = screen()
    for item in found:
        console.print(sentence(item), markup=False)
    console.print(to_table(found, title=f"fragment {fragment.jti}"))


def _open(out: Path) -> "LineageStore":
    from dayfly.engine.lineage import LineageStore  # noqa: PLC0415 - see `explain`
    from dayfly.engine.runtime.run_folder import LINEAGE  # noqa: PLC0415 - see `explain`

    path = out / LINEAGE
    if not path.is_file():
        fail(f"out={str(out)!r} must be a folder that `dayfly run --out` left; {LINEAGE} is not in it")
    # The key serves erasure alone, which is not done here.
    return LineageStore.open(path, subject_key=bytes(32))


def _jti(store: "LineageStore", fragment_id: str) -> str:
    from dayfly.engine.errors import LineageError  # noqa: PLC0415 - see `explain`

    try:
        return store.jti_of(fragment_id)
    except LineageError:
        return fragment_id
