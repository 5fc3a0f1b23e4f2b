"""The page about the privacy of answers: its example runs, and the modules that hold its proof notes do hold them."""

import re
from importlib import import_module

from . import ROOT

PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")


def test_the_example_of_an_audit_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(example, "docs/privacy.md", "exec"), {})


def test_each_proof_note_is_where_the_page_says() -> None:
    table = PAGE.split("## The guarantees")[1].split("##", 1)[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`dayfly" in line]
    assert len(rows) >= 8
    for row in rows:
        package = ""
        for name in re.findall(r"`(\.?[\w.]+)`", row.split("|")[3]):
            whole = package + name if name.startswith(".") else name
            package = whole.rsplit(".", 1)[0]
            note = import_module(whole)
            told = (note.__doc__ or "") + "".join(
                str(vars(one).get("__doc__")) for one in vars(note).values() if isinstance(one, type)
            )
            assert re.search(r"[Cc]laim|Guarantees|Proof note", told), whole
