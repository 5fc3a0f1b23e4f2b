"""How the coordinator asks: every channel must answer, in its own name."""

from collections.abc import Mapping

import msgspec

from dayfly.federation.errors import BadMessage, Declined, TooFewParties
from dayfly.federation.grid import Failure
from dayfly.federation.secagg.messages import T, decode
from dayfly.federation.wire import Caller

__all__ = ["ask"]


def ask(caller: Caller, kind: str, bodies: Mapping[str, bytes], reply: type[T]) -> dict[str, T]:
    """One request to each channel, and the reply of each, by name, sorted.

    Raises:
        Declined: a channel declines; names it and its cause.
        TooFewParties: a channel is lost; names it.
        BadMessage: a reply is none, or is in another channel's name.
    """
    found: dict[str, T] = {}
    for party, answer in sorted(caller.ask(kind, bodies).items()):
        if isinstance(answer, Failure):
            if answer.lost:
                raise TooFewParties(
                    f"party={party!r} was lost at {kind!r}: {answer.cause}; every channel is needed, start it and resume"
                )
            raise Declined(party, f"declined {kind!r}: {answer.cause}")
        read = decode(answer, reply, party=party)
        fields = msgspec.structs.asdict(read)
        if fields.get("party", fields.get("sender")) != party:
            raise BadMessage(party, f"must answer {kind!r} in its own name; stop it and check its node")
        found[party] = read
    return found
