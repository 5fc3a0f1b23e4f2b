"""What people do: a session as a list of `Action`, without knowledge of any channel's format."""

from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from .assortment import Product
from .draw import Draw
from .people import CONSENT_CATEGORIES, ONE_TIME_CATEGORY, Person, phone_address
from .times import iso_ms

__all__ = ["Action", "Channel", "Kind", "hotline_call", "marketplace_order", "shopping", "store_visit"]

Channel: TypeAlias = Literal["app", "web", "wifi", "marketplace", "hotline"]
Kind: TypeAlias = Literal["track", "identify", "alias", "view", "row"]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS


class Action(msgspec.Struct, frozen=True, gc=False):
    """Something a person did on a channel.

    Attributes:
        at_ms: True time, UTC.
        kind: `track` a named event, `identify` (log-in), `alias` (two ids, one person), `view` (a page or screen), or a
            `row` of a file.
        name: Event name, page name, or zone.
        properties: As the channel's own software would report them.
        consent: Whether the banner's state travels with it.
        actor: An id other than the person's own, such as a probe address.
    """

    at_ms: int
    channel: Channel
    kind: Kind
    name: str
    properties: Mapping[str, object] = msgspec.field(default_factory=dict)
    consent: bool = False
    actor: str = ""


def shopping(person: Person, channel: Literal["app", "web"], start_ms: int, draw: Draw) -> Iterator[Action]:
    """A visit to the app or the web shop: arrive, perhaps answer the banner and log in, look around, perhaps buy."""
    clock = _Clock(start_ms, draw)
    if channel == "app":
        yield Action(clock.now_ms, channel, "track", "App Opened", {"app_version": "7.4.1"})
        yield Action(clock.step(2_000), channel, "view", "Home", {"category": "start"})
    else:
        yield Action(
            clock.now_ms, channel, "view", "Home", {"category": "start"}, consent=person.consent is not None
        )
    yield from _banner(person, channel, clock, draw)
    yield from _log_in(person, channel, clock, draw)
    basket: list[Product] = []
    for _ in range(draw.between(1, 3)):
        yield from _look_around(person, channel, clock, draw, basket)
    if basket and draw.chance(0.55):
        yield from _check_out(person, channel, clock, draw, basket)


class _Clock:
    """Time within a session; steps are exponential."""

    __slots__ = ("_draw", "now_ms")

    def __init__(self, start_ms: int, draw: Draw) -> None:
        self.now_ms = start_ms
        self._draw = draw

    def step(self, mean_ms: int) -> int:
        """The time after a pause of `mean_ms` on average, at least 300 ms."""
        self.now_ms += 300 + int(self._draw.exponential(mean_ms))
        return self.now_ms


def _banner(person: Person, channel: Channel, clock: _Clock, draw: Draw) -> Iterator[Action]:
    if person.consent is None and draw.chance(0.7):
        person.consent = _choice(person, draw)
    elif person.consent is not None and any(person.consent.values()) and draw.chance(0.02):
        person.consent = dict.fromkeys(person.consent, False)  # withdrawn in the privacy settings
    else:
        return
    yield Action(clock.step(4_000), channel, "track", "Segment Consent Preference Updated", consent=True)


def _choice(person: Person, draw: Draw) -> dict[str, bool]:
    point = draw.uniform()
    likes_children = any(interest.name == "children's furniture" for interest in person.interests)
    if likes_children and point < 0.25:
        return dict.fromkeys(CONSENT_CATEGORIES, False) | {ONE_TIME_CATEGORY: True}
    if point < 0.65:
        return dict.fromkeys(CONSENT_CATEGORIES, True)
    if point < 0.85:
        return dict.fromkeys(CONSENT_CATEGORIES, False)
    return {category: draw.chance(0.5) for category in CONSENT_CATEGORIES}


def _log_in(person: Person, channel: Channel, clock: _Clock, draw: Draw) -> Iterator[Action]:
    if channel in person.known_on or not draw.chance(0.4):
        return
    person.known_on.add(channel)
    yield Action(
        clock.step(8_000), channel, "track", "Login", {"method": draw.one_of(("password", "sms", "passkey"))}
    )
    traits = {
        "city": person.city,
        "member_level": person.member_level,
        "household_size": person.household_size,
        "email": f"{person.user_id}@mail.example",  # undeclared on purpose: intake must never read it
        "phone": f"+86 100 {person.number:08d}",
    }
    yield Action(clock.step(500), channel, "identify", "", traits, consent=person.consent is not None)
    if channel == "web" and draw.chance(0.3):
        yield Action(clock.step(100), channel, "alias", "")


def _look_around(
    person: Person, channel: Channel, clock: _Clock, draw: Draw, basket: list[Product]
) -> Iterator[Action]:
    interest = person.interests[0] if draw.chance(0.75) else draw.one_of(person.interests)
    for _ in range(draw.between(1, 3)):
        results = draw.between(0, 60)
        yield Action(
            clock.step(9_000),
            channel,
            "track",
            "Product Searched",
            {"query": draw.one_of(interest.queries), "results": results},
        )
        if channel == "web" and draw.chance(0.5):
            yield Action(
                clock.step(800), channel, "view", "Results", {"category": interest.products[0].category}
            )
        for _ in range(draw.between(0, 4)):
            product = draw.one_of(interest.products)
            yield Action(clock.step(18_000), channel, "track", "Product Viewed", _shown(product, draw))
            if draw.chance(0.12):
                basket.append(product)
                yield Action(
                    clock.step(6_000),
                    channel,
                    "track",
                    "Product Added",
                    {
                        "product_id": product.product_id,
                        "category": product.category,
                        "price": product.price,
                        "quantity": draw.between(1, 2),
                    },
                )
    if basket and draw.chance(0.1):
        removed = basket.pop()
        yield Action(
            clock.step(9_000), channel, "track", "Product Removed", {"product_id": removed.product_id}
        )
    if draw.chance(interest.install):
        sku = draw.one_of(interest.products).product_id
        tapped = person.consent is not None
        yield Action(
            clock.step(5_000), channel, "track", "Install Service Tapped", {"sku": sku}, consent=tapped
        )
    if draw.chance(0.02):
        reviewed = {
            "product_id": draw.one_of(interest.products).product_id,
            "rating": draw.between(1, 5),
            "recommends": True,
        }
        yield Action(clock.step(40_000), channel, "track", "Product Reviewed", reviewed)


def _shown(product: Product, draw: Draw) -> dict[str, object]:
    return {
        "product_id": product.product_id,
        "category": product.category,
        "material": product.material,
        "price": product.price,
        "currency": "CNY",
        "audience": product.audience,
        "room": product.room,
        "in_stock": draw.chance(0.9),
    }


def _check_out(
    person: Person, channel: Channel, clock: _Clock, draw: Draw, basket: list[Product]
) -> Iterator[Action]:
    total = round(sum(product.price for product in basket), 2)
    started = {"total": total, "currency": "CNY", "items": len(basket)}
    yield Action(clock.step(20_000), channel, "track", "Checkout Started", started)
    if not draw.chance(0.6):
        return
    dearest = max(basket, key=lambda product: (product.price, product.product_id))
    completed = {
        "order_id": f"o-{draw.token(40)}",
        "total": total,
        "currency": "CNY",
        "category": dearest.category,
        "items": len(basket),
        "gift": draw.chance(0.05),
    }
    yield Action(clock.step(60_000), channel, "track", "Order Completed", completed)
    yield from _after_order(person, channel, clock, draw, completed)


def _after_order(
    person: Person, channel: Channel, clock: _Clock, draw: Draw, order: Mapping[str, object]
) -> Iterator[Action]:
    """Shipping, delivery, or a cancellation, minutes to days later; a cancel often comes after the shipping notice."""
    order_id = order["order_id"]
    shipped_ms = clock.now_ms + int(draw.log_between(5 * MINUTE_MS, 36 * HOUR_MS))
    delivery_ms = shipped_ms + draw.between(12, 96) * HOUR_MS
    if draw.chance(0.85):
        shipped = {
            "order_id": order_id,
            "status": "shipping",
            "carrier": draw.one_of(("SF", "JD", "ZTO")),
            "delivery_at": iso_ms(delivery_ms),
        }
        yield Action(shipped_ms, channel, "track", "Order Shipped", shipped)
    if draw.chance(0.12):
        if draw.chance(0.5):  # the shipping notice reminds people of what they no longer want
            cancelled_ms = shipped_ms + int(draw.log_between(MINUTE_MS, 25 * MINUTE_MS))
        else:
            cancelled_ms = clock.now_ms + int(draw.log_between(2 * MINUTE_MS, 40 * HOUR_MS))
        reason = draw.one_of(("changed mind", "too late", "found cheaper", "wrong size"))
        cancelled = {"order_id": order_id, "reason": reason, "total": order["total"]}
        yield Action(cancelled_ms, channel, "track", "Order Cancelled", cancelled)
    else:
        yield Action(delivery_ms, channel, "track", "Order Delivered", {"order_id": order_id})
    if draw.chance(0.05):
        yield from hotline_call(
            person, delivery_ms + draw.between(1, 20) * HOUR_MS, draw, order_id=str(order_id)
        )


def store_visit(person: Person, start_ms: int, draw: Draw) -> Iterator[Action]:
    """A walk through a shop, seen by its WiFi sensors."""
    clock = _Clock(start_ms, draw)
    address = person.mac or phone_address(draw, randomised=True)
    for zone in ("entrance", "sofas", "storage", "kids", "kitchen", "restaurant"):
        if zone == "entrance" or draw.chance(0.45):
            dwell = 15 + int(draw.exponential(240))
            seen = {"store_id": person.store, "zone": zone, "dwell_s": dwell}
            yield Action(clock.now_ms, "wifi", "row", "com.example.presence.seen", seen, actor=address)
            clock.now_ms += dwell * 1_000
            if person.mac is None and draw.chance(0.3):
                address = phone_address(draw, randomised=True)


def marketplace_order(person: Person, start_ms: int, draw: Draw) -> Iterator[Action]:
    """An order placed on a marketplace; some buyers gave their account number there, the others stay strangers."""
    buyer = person.user_id if person.number % 5 < 3 else f"mp-{person.number:07d}"
    product = draw.one_of(person.interests[0].products)
    order = {"order_id": f"m-{draw.token(40)}", "total": product.price, "category": product.category}
    yield Action(start_ms, "marketplace", "row", "Order Completed", order, actor=buyer)
    if draw.chance(0.15):
        later_ms = start_ms + int(draw.log_between(10 * MINUTE_MS, 30 * HOUR_MS))
        yield Action(later_ms, "marketplace", "row", "Order Cancelled", order, actor=buyer)
    else:
        later_ms = start_ms + int(draw.log_between(HOUR_MS, 40 * HOUR_MS))
        yield Action(later_ms, "marketplace", "row", "Order Shipped", order, actor=buyer)


def hotline_call(person: Person, start_ms: int, draw: Draw, *, order_id: str = "") -> Iterator[Action]:
    """A call, logged when it ends."""
    about = draw.one_of(("delivery", "complaint")) if order_id else draw.one_of(("advice", "installation"))
    seconds = 20 + int(draw.exponential(210))
    call: dict[str, object] = {"subject": about, "duration_s": seconds, "resolved": draw.chance(0.8)}
    if order_id:
        call["order_id"] = order_id
    yield Action(start_ms, "hotline", "row", "Hotline Called", call, actor=person.user_id)
