"""atheris targets for the tag language and the policy loader: any input is a result or a refusal, never another exception.

Run for a bounded time: ``python -m tests.fuzz.tags_fuzz -max_total_time=60``. `tests/engine/tags/test_fuzz.py` does so in the slow suite
when atheris is installed, and always feeds the targets the corpus below.
"""

import json
import sys
from contextlib import suppress
from typing import Final

from dayfly.engine.errors import PolicyError, TagError
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.policy.yaml_source import read_yaml
from dayfly.engine.tags.check import tag_findings
from dayfly.engine.tags.document import expression_document, expression_from_document
from dayfly.engine.tags.render import render_expression
from dayfly.engine.tags.sentence import describe
from dayfly.engine.tags.text import parse_expression
from dayfly.engine.tags.tree import Tag
from tests.engine.tags.boundary_table import CATALOG, HAS_A, SETTINGS, boundary_rows

__all__ = ["CORPUS", "fuzz_one"]

CORPUS: Final = (
    *(row.tag.text.encode() for row in boundary_rows()),
    b"kind: tags\ntags:\n  - &a {tag: a, when: *a}\n",
    b'{"version":1,"documents":[{"kind":"catalog","events":{"A":{}}}]}',
    b'{"version":1,"documents":[{"kind":"catalog","events":[]},7]}',
)


def fuzz_one(data: bytes) -> None:
    """One input through every reader."""
    _text(data.decode(errors="surrogateescape"))
    read_yaml("fuzz.yaml", data)
    try:
        policy = policy_from_source(data)
    except PolicyError:
        pass
    else:
        assert policy_from_source(policy.source) == policy
    with suppress(
        ValueError, RecursionError
    ):  # a TagError is a ValueError too; the JSON reader's depth is not ours
        expression_from_document(json.loads(data))


def _text(text: str) -> None:
    try:
        tree = parse_expression(text)
    except TagError as error:
        assert -1 <= error.start <= error.end <= len(text) + 1  # noqa: PT017 - either outcome is right, this is about the place
        return
    assert parse_expression(render_expression(tree)) == tree
    assert expression_from_document(expression_document(tree)) == tree
    describe(tree)
    tag_findings(Tag("fuzzed", "p", "t", tree), CATALOG, {"has-a": HAS_A}, SETTINGS)


if __name__ == "__main__":
    import atheris

    atheris.Setup(sys.argv, atheris.instrument_func(fuzz_one))
    atheris.Fuzz()
