"""Write docs/api.md: what each portion offers by name, in the words of its docstrings.

Run from the project's environment: `python tools/api_page.py` writes, `--print` only shows.
"""

import argparse
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

__all__ = ["page"]

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
PORTIONS = ("dayfly.engine", "dayfly.federation", "dayfly.privacy")
HEAD = """\
# The Python interface

What the portions offer by name, in the words of their docstrings: `help(dayfly.engine.MemoryEngine)` says the rest. The
subpackages offer more, each listing it in its `__all__`; a name that begins with an underscore is nobody's business. Values are
frozen, time and randomness and keys are parameters, and every error is a `DayflyError` whose message names the value, the rule
and the way out.

This page is written by `tools/api_page.py`.
"""


def page() -> str:
    """The page as the portions are now."""
    return "\n".join([HEAD, *(line for portion in PORTIONS for line in _portion(portion))])


def _portion(name: str) -> Iterator[str]:
    module = import_module(name)
    yield f"## {name}\n"
    for home, names in _by_home(name, module.__all__).items():
        yield f"### From {home}\n"
        yield "| name | what it is |"
        yield "| --- | --- |"
        for entry in names:
            yield f"| `{entry}` | {_summary(getattr(module, entry))} |"
        yield ""


def _by_home(portion: str, names: list[str]) -> dict[str, list[str]]:
    """The names by the subpackage or module of the portion that defines them, both sorted."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        origin = getattr(import_module(portion), name).__module__.removeprefix(f"{portion}.")
        found.setdefault(f"{portion}.{origin.split('.')[0]}", []).append(name)
    return dict(sorted(found.items()))


def _summary(value: object) -> str:
    text = inspect.getdoc(value) or ""
    first = text.split("\n\n", maxsplit=1)[0].replace("\n", " ")
    return first.replace("|", "\\|")


def main() -> int:
    """Write or show the page.

    Returns:
        Exit status 0; failures raise.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--print", action="store_true", help="show the page instead of writing it")
    if parser.parse_args().print:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
