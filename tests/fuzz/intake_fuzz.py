"""Coverage-guided fuzzing of intake: no bytes may raise, and both paths for Segment payloads must agree.

Run by `tests/engine/intake/test_fuzz.py` where atheris is installed, or by hand:
`python -m tests.fuzz.intake_fuzz -max_total_time=60`.
"""

import json
import sys

import atheris

with atheris.instrument_imports(include=["dayfly.engine.intake"]):
    from tests.engine.intake.support import NOW, make_intake, seen
    from tests.engine.intake.test_files import make, mapping

FAST, GENERAL, FILES = make_intake(), make_intake(fast=False), make()
MODES = ("application/cloudevents+json", "application/cloudevents-batch+json", "application/json", "")


def one_input(data: bytes) -> None:
    """Feed `data` to every reader of bytes."""
    provider = atheris.FuzzedDataProvider(data)
    mode = MODES[provider.ConsumeIntInRange(0, len(MODES) - 1)]
    header = provider.ConsumeUnicodeNoSurrogates(20)
    body = provider.ConsumeBytes(provider.remaining_bytes())
    if seen(FAST.segment([body], "app", NOW)) != seen(GENERAL.segment([body], "app", NOW)):
        raise AssertionError(json.dumps(body.hex()))
    GENERAL.cloudevents({"Content-Type": mode, "ce-id": header}, body, "app", NOW)
    GENERAL.cloudevents({"Content-Type": mode, "ce-id": header}, body, "wifi", NOW)
    list(FILES.jsonl(body, mapping(), NOW))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
