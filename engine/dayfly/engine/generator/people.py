"""The people: who they are, how they can be recognised on each channel, and what they agreed to."""

from dataclasses import dataclass, field
from typing import Final

from .assortment import CITIES, INTERESTS, STORES, Interest
from .draw import Draw

__all__ = ["CONSENT_CATEGORIES", "ONE_TIME_CATEGORY", "Person", "new_person", "phone_address"]

CONSENT_CATEGORIES: Final = ("personalisation", "service-info", "marketing")
"""Category ids of the consent banner; the example policy's consent document says what each grants."""

ONE_TIME_CATEGORY: Final = "children-once"
"""The choice "only this time, only children's furniture"."""


@dataclass(slots=True)
class Person:
    """One simulated person. Mutable: a simulation's state, not a value.

    Attributes:
        number: Index in the population.
        interests: What they come for, the main one first.
        app_id, web_id: Anonymous ids of their two devices.
        known_on: Channels on which they have logged in.
        consent: Choice by category, None until the banner was answered.
        skew_ms: How far their phone's clock is ahead.
        mac: Fixed WiFi address, or None for a phone that shows a new random one at each visit.
    """

    number: int
    interests: tuple[Interest, ...]
    app_id: str
    web_id: str
    skew_ms: int
    mac: str | None
    store: str
    city: str
    member_level: str
    household_size: int
    known_on: set[str] = field(default_factory=set)
    consent: dict[str, bool] | None = None

    @property
    def user_id(self) -> str:
        """Account id, known to a channel after login."""
        return f"u-{self.number:07d}"


def phone_address(draw: Draw, *, randomised: bool) -> str:
    """A unicast MAC address; a randomised one has the "locally administered" bit set (IEEE 802c)."""
    first = int(draw.token(8), 16) & 0xFC | (0x02 if randomised else 0x00)
    rest = draw.token(40)
    return f"{first:02x}:" + ":".join(rest[at : at + 2] for at in range(0, 10, 2))


def new_person(number: int, draw: Draw) -> Person:
    """Person `number`, drawn when they first appear."""
    main = _interest(draw)
    second = _interest(draw) if draw.chance(0.25) else main
    # Most clocks are good; a few phones are minutes off, which intake corrects by the sending time.
    skew_ms = draw.between(-600_000, 600_000) if draw.chance(0.02) else draw.between(-300, 300)
    return Person(
        number=number,
        interests=(main,) if second is main else (main, second),
        app_id=f"a-{draw.token(64)}",
        web_id=f"w-{draw.token(64)}",
        skew_ms=skew_ms,
        mac=None if draw.chance(0.7) else phone_address(draw, randomised=False),
        store=draw.one_of(STORES),
        city=draw.one_of(CITIES),
        member_level=draw.one_of(("basic", "silver", "gold")),
        household_size=draw.between(1, 5),
    )


def _interest(draw: Draw) -> Interest:
    point = draw.uniform()
    for interest in INTERESTS[:-1]:
        point -= interest.share
        if point < 0:
            return interest
    return INTERESTS[-1]
