"""Make `issue.json`, `verify.json` and `invalid.json` in this folder.

Run as `python -m tests.vectors.fragments.generate` from the root of the repository. Names, salts and content keys count
upwards; the signing key is new in every run, so a run replaces all three files together.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dayfly.privacy.fragments import OrderField, Profile
from tests.privacy.fragments import world
from tests.privacy.fragments.attacks import FAMILIES, Forge

__all__ = ["counter", "fixed_world", "main"]

HERE = Path(__file__).parent
SHAPES: dict[str, dict[str, Any]] = {
    "F1, eight fields": {},
    "F1, one use": {"use": 1},
    "F1, three uses, version 4": {"use": 3, "version": 4},
    "F1, short life": {"ttl_seconds": 60},
    "F1, one null field, topic in Chinese": {"fields": (OrderField("a", None),), "topic": "家具.儿童"},
    "F0": {"profile": Profile.F0},
    "F2": {"profile": Profile.F2, "fields": (OrderField("green_channel", value=True),)},
}


def counter() -> Callable[[int], bytes]:
    """Bytes that count upwards, for vectors only."""
    state = [0]

    def take(length: int) -> bytes:
        state[0] += length
        return bytes((state[0] - length + n) % 251 for n in range(length))

    return take


def fixed_world() -> world.World:
    """The test world with counting randomness for names, salts and content keys."""
    return world.World(random_bytes=counter(), fill_random=_fill(counter()))


def _fill(take: Callable[[int], bytes]) -> Callable[[memoryview], None]:
    def fill(buffer: memoryview) -> None:
        buffer[:] = take(len(buffer))

    return fill


def main() -> None:
    """Write the three files."""
    made = fixed_world()
    jwks = made.cdp.jwks(world.NOW_MS)
    common = {"issuer": world.ISSUER, "audience": world.AUDIENCE, "now_ms": world.NOW_MS, "jwks": jwks}
    issued = []
    for name, changes in SHAPES.items():
        fragment = made.cdp.mint(world.order(name, **changes), world.NOW_MS)
        entry = made.cdp._state.live.get(fragment.jti)
        assert entry is not None
        key = b"" if entry.slot is None else bytes(made.cdp._state.key_of(entry))
        fields = {field.name: field.value for field in world.order(**changes).fields}
        issued.append(
            {
                "name": name,
                "token": fragment.token,
                "key": key.hex(),
                "values": fields,
                "profile": fragment.profile,
            }
        )
    _write("issue.json", {**common, "fragments": issued})
    exp_ms = world.NOW_MS // 1000 * 1000 + 1_800_000
    times = [
        {"now_ms": at, "result": result}
        for at, result in (
            (world.NOW_MS - 5_250 - 1, "invalid"),
            (world.NOW_MS - 5_250, "valid"),
            (exp_ms - 1, "valid"),
            (exp_ms, "expired"),
        )
    ]
    _write("verify.json", {**common, "token": issued[0]["token"], "times": times})
    forge = Forge()
    hostile = [  # a sample of every family, for other implementations; the whole table runs in the tests
        {"name": f"{family}: {attack.name}", "token": token}
        for family, listed in FAMILIES.items()
        for attack in listed
        if not attack.opens
        and isinstance(token := attack.make(forge), str)
        and len(token) < 20_000
        and _is_text(token)
    ]
    _write(
        "invalid.json",
        {
            **common,
            "jwks": forge.world.cdp.jwks(world.NOW_MS),
            "genuine": forge.token,
            "tokens": hostile[::6],
        },
    )


def _is_text(token: str) -> bool:
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in token)


def _write(name: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=True)
    (HERE / name).write_text(text + "\n")


if __name__ == "__main__":
    main()
