"""Who enters: customers of whom the decision function says yes until the manifest expires, each once; and what training asks again."""

import numpy as np
import pytest

from dayfly.federation.alignment import Customers, Manifest, Rows
from dayfly.federation.errors import ConsentWithdrawn, InvalidData, ManifestExpired, WrongManifest
from dayfly.privacy.consent import EVERYTHING, ConsentRequest, PersonConsents, Scope

from .runs import EVERYWHERE, HOUR_MS, NOW_MS, PURPOSE, REQUEST, YES, consenting

UNTIL_MS = NOW_MS + HOUR_MS


def other_purpose() -> Scope:
    return Scope(
        purposes=("advertising",),
        **{name: getattr(EVERYWHERE, name) for name in EVERYWHERE.__struct_fields__ if name != "purposes"},
    )


NO = {
    "nothing known": None,
    "no record": PersonConsents("p"),
    "malformed": YES.with_malformed({"scope": 7}, NOW_MS - 1),
    "withdrawn": YES.with_withdrawal(EVERYTHING, NOW_MS - 1),
    "another purpose": consenting(scope=other_purpose()),
    "ended": consenting(until_ms=NOW_MS),
    "ends before the manifest": consenting(until_ms=UNTIL_MS - 1),
    "no person at all": "p",
}


def customers_of(identifiers: list[str], persons: list[PersonConsents | None], **given: object) -> Customers:
    return Customers.of("shop", identifiers, persons, REQUEST, kind="id", **given)  # type: ignore[arg-type]  # keywords of one call


def rows_of(count: int, entering: list[int], **changes: object) -> Rows:
    positions = np.full(count, -1, np.int64)
    positions[entering] = np.arange(len(entering)) * 2
    given = {
        "party": "shop",
        "run": bytes(16),
        "purpose": PURPOSE,
        "count": len(entering),
        "issued_ms": NOW_MS,
        "expires_ms": UNTIL_MS,
        "points_digest": bytes(32),
    }
    return Rows(2 * count, positions, Manifest(**{**given, **changes}))  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("why", list(NO))
def test_only_customers_of_whom_the_decision_is_yes_enter(why: str) -> None:
    customers = customers_of(["a", "b", "c"], [YES, NO[why], YES])  # type: ignore[list-item]  # one is no person
    assert customers.entering(now_ms=NOW_MS, until_ms=UNTIL_MS).tolist() == [0, 2]


def test_a_consent_that_ends_with_the_manifest_is_long_enough() -> None:
    customers = customers_of(["a"], [consenting(until_ms=UNTIL_MS)])
    assert customers.entering(now_ms=NOW_MS, until_ms=UNTIL_MS).tolist() == [0]


def test_a_request_that_makes_no_sense_lets_nobody_in() -> None:
    customers = Customers.of("shop", ["a"], [YES], ConsentRequest("No such path"), kind="id")
    assert customers.entering(now_ms=NOW_MS, until_ms=UNTIL_MS).size == 0


def test_there_must_be_one_person_per_identifier() -> None:
    with pytest.raises(
        InvalidData, match=r"party='shop' must have one person's consents per identifier, not 1 for 2"
    ):
        customers_of(["a", "b"], [YES])


def test_an_identifier_that_breaks_its_rule_names_channel_and_row() -> None:
    with pytest.raises(
        InvalidData, match="party='shop' has an identifier that breaks its rule: row=1 id=<empty>"
    ):
        customers_of(["a", ""], [YES, YES])


def test_a_customer_who_comes_twice_is_refused_and_shown_masked() -> None:
    with pytest.raises(
        InvalidData,
        match=r"id=<c…, 10 characters> of row 3 is that of row 1 too \(2 such rows\); merge them, or pass duplicates='first'",
    ) as caught:
        customers_of(["a", "customer-b", "c", " customer-b", "ａ"], [YES] * 5)
    assert "customer-b" not in str(caught.value)


@pytest.mark.parametrize(
    ("persons", "entering"), [([YES, YES, YES], [0, 1]), ([YES, YES, None], [1]), ([None, YES, YES], [1])]
)
def test_merged_rows_enter_once_and_only_if_all_of_them_consent(
    persons: list[PersonConsents | None], entering: list[int]
) -> None:
    customers = customers_of(["a", "b", "a "], persons, duplicates="first")
    assert customers.entering(now_ms=NOW_MS, until_ms=UNTIL_MS).tolist() == entering


def test_training_goes_on_while_all_consents_stand() -> None:
    customers = customers_of(["a", "b", "c"], [YES, None, YES])
    customers.insist(rows_of(3, [0, 2]), NOW_MS + 1)
    customers.with_persons([YES, YES.with_withdrawal(EVERYTHING, NOW_MS), YES]).insist(
        rows_of(3, [0, 2]), NOW_MS + 1
    )


@pytest.mark.parametrize(
    "now", [None, YES.with_withdrawal(EVERYTHING, NOW_MS + 1), consenting(until_ms=NOW_MS + 2)]
)
def test_a_consent_withdrawn_since_alignment_stops_training_and_names_the_channel(
    now: PersonConsents | None,
) -> None:
    customers = customers_of(["a", "b", "c"], [YES] * 3)
    rows = rows_of(3, [0, 1, 2])
    customers.insist(rows, NOW_MS + 2)
    with pytest.raises(
        ConsentWithdrawn,
        match="party='shop' has rows whose consent for purpose='joint-model' was withdrawn since they were aligned, or ended; nothing was spent",
    ):
        customers.with_persons([YES, YES, now]).insist(rows, NOW_MS + 2)


def test_a_withdrawal_in_a_merged_row_stops_training_too() -> None:
    customers = customers_of(["a", "b", "a"], [YES] * 3, duplicates="first")
    rows = rows_of(3, [0, 1])
    customers.insist(rows, NOW_MS)
    with pytest.raises(ConsentWithdrawn, match="party='shop' has rows whose consent"):
        customers.with_persons([YES, YES, None]).insist(rows, NOW_MS)


@pytest.mark.parametrize("persons", [[YES], [YES] * 3])
def test_consents_of_another_number_of_customers_stop_training(persons: list[PersonConsents | None]) -> None:
    customers = customers_of(["a", "b"], [YES, YES]).with_persons(persons)
    with pytest.raises(
        ConsentWithdrawn, match=f"must have the consents of its 2 aligned customers, not of {len(persons)}"
    ):
        customers.insist(rows_of(2, [0, 1]), NOW_MS)


def test_an_expired_manifest_stops_training() -> None:
    customers = customers_of(["a"], [YES])
    customers.insist(rows_of(1, [0]), UNTIL_MS - 1)
    with pytest.raises(
        ManifestExpired, match=f"party='shop' must have a manifest that holds at now_ms={UNTIL_MS}"
    ):
        customers.insist(rows_of(1, [0]), UNTIL_MS)


def test_a_manifest_for_another_purpose_stops_training() -> None:
    with pytest.raises(WrongManifest, match="must have a manifest for purpose='joint-model', not 'counting'"):
        customers_of(["a"], [YES]).insist(rows_of(1, [0], purpose="counting"), NOW_MS)
