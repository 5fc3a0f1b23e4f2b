"""The demo's story, told while the events run: every sentence states what has just been checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dayfly.engine.decisions import OrderMade
from dayfly.engine.lineage import sentence, to_table
from dayfly.engine.lineage.times import utc_text
from dayfly.engine.runtime import RawMessage, Step
from dayfly.privacy.fragments import Fragment, verify_receipt
from dayfly.privacy.fragments.wire import SealedClaims

from .crm_side import DemoCrm
from .exits import ExitCode, fail
from .running import LOG_ORIGIN, Running

__all__ = ["SCENES", "Story"]

SOFA: Final = "advise-on-sofa-materials"
SHIPPING: Final = "order-shipping"
AFTER_MS: Final = 31 * 60_000
"""A little longer than the longest life of a fragment."""

SCENES: Final = ("opened", "explained", "withdrawn", "recalled", "expired")


class Story:
    """Watches a run and tells what it finds.

    Args:
        running: The run.
        crms: The CRMs by audience; their keys are registered.
        console: Where the story is told.
    """

    def __init__(self, running: Running, crms: Mapping[str, DemoCrm], console: Console) -> None:
        self._running = running
        self._engine = running.engine
        self._crms = crms
        self._console = console
        self.facts: dict[str, dict[str, object]] = {}

    def watch(self, step: Step) -> None:
        """Tell a scene when a fragment that it needs has just been minted."""
        orders = {made.order.order_id: made for made in step.outcome.decisions.orders}
        for fragment in step.outcome.fragments:
            made = orders[fragment.order_id]
            if made.order.rule.id == SOFA and "opened" not in self.facts:
                self._opened(made, fragment, step)
                self._explained(fragment)
                self._withdrawn(made, fragment, step.now_ms)
            elif made.order.rule.id == SHIPPING and "recalled" not in self.facts:
                self._recalled(fragment, step)

    # --- one customer ---------------------------------------------------------------------------------------------------

    def _opened(self, made: OrderMade, fragment: Fragment, step: Step) -> None:
        crm, other = self._crms[fragment.audience], self._crms["crm-eu-1"]
        now, token = step.now_ms, fragment.token
        self._title("A fragment is minted")
        self._say(
            f"At {utc_text(now)} a customer began to compare sofa materials. Their consent covers it, so trigger {SOFA} "
            f"minted fragment {fragment.jti} for {fragment.audience}. It dies at {utc_text(fragment.expires_at_ms)}."
        )
        self._title("The CRM verifies it offline, leases its key and opens it")
        must(crm.accepts(self._engine, token, now), "the audience accepts its fragment")
        must(not other.accepts(self._engine, token, now), "another audience refuses the fragment")
        must(not crm.accepts(self._engine, _altered(token), now), "an altered fragment is refused")
        self._say(
            f"With the published key set alone {crm.audience} finds it genuine; {other.audience} refuses it, and so does "
            "everybody when one letter of it is changed."
        )
        opened = crm.open(self._engine, token, now)
        sent = {item.name: item.value for item in made.order.fields}
        must(
            {name: _plain(value) for name, value in opened.values.items()}
            == {name: _plain(value) for name, value in sent.items()},
            "the opened values are those ordered",
        )
        self._say(
            f"It proves with its own key (DPoP) who it is, gets the fragment's key until {utc_text(opened.until_ms)}, and reads:"
        )
        self._table({name: _shown(value) for name, value in opened.values.items()})
        self.facts["opened"] = {
            "jti": fragment.jti,
            "audience": fragment.audience,
            "fields": {name: _plain(value) for name, value in opened.values.items()},
            "expires_at_ms": fragment.expires_at_ms,
        }

    def _explained(self, fragment: Fragment) -> None:
        self._title("Why does the CRM see this?")
        explanation = self._engine.explain(fragment.jti, "materials")
        must(
            explanation.total_events >= 3 and bool(explanation.consents),
            "three events and a consent explain it",
        )
        self._say(sentence(explanation))
        self._console.print(to_table([explanation]))
        self._say("The lineage names events by keyed digests; it holds no value and no identifier.")
        self.facts["explained"] = {"field": "materials", "sentence": sentence(explanation)}

    def _withdrawn(self, made: OrderMade, fragment: Fragment, now_ms: int) -> None:
        self._title("The customer withdraws consent")
        crm = self._crms[fragment.audience]
        kc = self._claims(crm, fragment, now_ms).kc
        outcome = self._engine.withdraw(made.order.subject, now_ms)
        self._running.note(Step(now_ms, outcome))
        dead = {item.jti: item.reason.value for item in outcome.destroyed}
        must(dead.get(fragment.jti) == "withdrawn", "withdrawal destroys the fragment")
        refusal = crm.lease_refusal(self._engine, fragment.token, now_ms)
        must(refusal == "gone", "no key is leased after withdrawal")
        left = sorted(item.tag for item in outcome.decisions.tags if item.change == "leave")
        self._say(
            f"In the same instant {counted(len(dead), 'fragment')} died and {counted(len(left), 'tag')} ended ({', '.join(left)}). "
            f"The token is still well signed, and of no use: the lease is refused ({refusal})."
        )
        self._proven(fragment, kc)
        self.facts["withdrawn"] = {"jti": fragment.jti, "lease_refused": refusal, "tags_dropped": left}

    def _proven(self, fragment: Fragment, kc: str) -> None:
        receipt = self._engine.fragments.receipt(fragment.jti)
        checkpoint = verify_receipt(receipt, self._running.keys.notes_verifier, LOG_ORIGIN, kc=kc)
        must(checkpoint.minted == checkpoint.live + checkpoint.size, "minted = live + destroyed")
        self._say(
            f"Its deletion receipt holds: tombstone {receipt.index + 1} of {checkpoint.size} in the signed log, with "
            f"{counted(len(receipt.proof), 'hash', 'hashes')} of proof, names this very key; {checkpoint.minted} minted = {checkpoint.live} alive "
            f"+ {checkpoint.size} destroyed."
        )

    def _claims(self, crm: DemoCrm, fragment: Fragment, now_ms: int) -> SealedClaims:
        claims = crm.client(self._engine, now_ms).verify(fragment.token, now_ms).claims
        assert isinstance(claims, SealedClaims)
        return claims

    # --- another customer -----------------------------------------------------------------------------------------------

    def _recalled(self, fragment: Fragment, step: Step) -> None:
        shipped = _shipped(step)
        if shipped is None:
            return  # several orders arrived at once: wait for a parcel that can be told apart
        crm, now = self._crms[fragment.audience], step.now_ms
        opened = crm.open(self._engine, fragment.token, now)
        must(opened.values["order_status"] == "shipping", "the fragment says shipping")
        self._title("An order is cancelled while a fragment says that it is on its way")
        self._say(f"{crm.audience} holds fragment {fragment.jti} of another customer, and reads:")
        self._table({name: _shown(value) for name, value in opened.values.items()})
        outcome = self._engine.segment([_cancellation(shipped, now)], shipped.channel, now)
        self._running.note(Step(now, outcome))
        dead = {item.jti: item.reason.value for item in outcome.destroyed}
        must(dead.get(fragment.jti) == "superseded", "cancelling the order destroys the fragment")
        must(any(item.reason == "contradicted" for item in outcome.decisions.recalls), "the audience is told")
        refusal = crm.lease_refusal(self._engine, fragment.token, now)
        must(refusal == "gone", "no key is leased after the recall")
        self._say(
            f'The customer cancels. "shipping" is no longer true: the fragment is recalled and destroyed, and a new lease is '
            f"refused ({refusal})."
        )
        self.facts["recalled"] = {"jti": fragment.jti, "lease_refused": refusal}

    # --- the end --------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Let the last fragments run out, and check the balance."""
        replay, tally, service = self._running.replay, self._running.tally, self._engine.fragments
        alive = {fragment.jti for fragment in service.live()}
        for step in replay.until(replay.now_ms + AFTER_MS):
            self._running.note(step)
        self._title("Time runs out for the rest")
        still = {fragment.jti for fragment in service.live()}
        must(bool(alive) and not alive & still, "no fragment outlives its time")
        must(service.minted == service.tombstones + len(still), "every dead fragment has its tombstone")
        must(tally.unopened > 0, "unopened fragments expire")
        self._say(
            f"Of the {len(alive)} fragments alive at the last event none is alive half an hour later. In all, {service.minted} "
            f"were minted and {service.tombstones} destroyed, {tally.unopened} of them at their end without ever having been "
            f"opened."
        )
        self.facts["expired"] = {
            "minted": service.minted,
            "destroyed": service.tombstones,
            "unopened": tally.unopened,
        }
        missing = [scene for scene in SCENES if scene not in self.facts]
        must(not missing, f"every scene is told (missing: {', '.join(missing)})")

    # --- telling --------------------------------------------------------------------------------------------------------

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.rule(Text(text, style="bold"), align="left")

    def _say(self, text: str) -> None:
        self._console.print(Text(text))

    def _table(self, values: Mapping[str, str]) -> None:
        table = Table(show_header=False)
        for name, value in values.items():
            table.add_row(Text(name), Text(value))
        self._console.print(table)


def must(held: bool, what: str) -> None:
    """End the demo with status 1 where it would say something untrue."""
    if not held:
        fail(f"demo: it must hold that {what}, and it does not; please report this as a defect", ExitCode.NO)


def counted(number: int, one: str, more: str = "") -> str:
    """A number with its noun.

    >>> counted(2, "fragment")
    '2 fragments'
    """
    return f"{number} {one if number == 1 else more or one + 's'}"


def _altered(token: str) -> str:
    middle = len(token) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _shown(value: object) -> str:
    plain = _plain(value)
    return ", ".join(str(item) for item in plain) if isinstance(plain, list) else str(plain)


def _shipped(step: Step) -> RawMessage | None:
    """The one message of a step that said that a parcel is on its way."""
    found = list(_shipping_messages(step))
    return found[0] if len(found) == 1 and len(step.outcome.fragments) == 1 else None


def _shipping_messages(step: Step) -> Iterator[RawMessage]:
    for arrival in step.group:
        if isinstance(arrival, RawMessage) and b'"event":"Order Shipped"' in arrival.payload:
            yield arrival


def _cancellation(shipped: RawMessage, now_ms: int) -> bytes:
    """The cancellation that the customer's device sends for a shipped order."""
    message = orjson.loads(shipped.payload)
    for name in ("receivedAt", "context"):
        message.pop(name, None)
    times = dict.fromkeys(("timestamp", "originalTimestamp", "sentAt"), utc_text(now_ms))
    order_id = message["properties"]["order_id"]
    cancelled = {"order_id": order_id, "reason": "changed mind"}
    body = {"event": "Order Cancelled", "messageId": "demo-cancellation", "properties": cancelled}
    return orjson.dumps({**message, **times, **body})
