"""6,325 people who were asked: data flow for exactly those who said yes, purpose by purpose, at the published rates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from dayfly.engine.runtime.arrivals import Rows, pieces
from dayfly.privacy.consent import ConsentRecord

from ..runtime.world import World, consent_record
from .replaying import FOREVER_MS, Replay, mapping_of, policy_of, subjects

FILE = "consent_experiment/consent_experiment_6325.csv.gz"
EVERYBODY = 6_325
HISTORY = "research.history"
USES = {
    "use.sell": ("may-sell", "ok_sell_consumer_data"),
    "use.small-business": ("may-help-business", "ok_small_business_use"),
    "use.census": ("may-census", "ok_census_use"),
    "use.research": ("may-research", "ok_research_use"),
}
"""Purpose: the tag under it, and the column with the answer. Only a plain Yes is a yes; who does not know says nothing."""


def said(subject: bytes, row: Mapping[str, Any], at_ms: int) -> tuple[ConsentRecord, ...]:
    """The answers of one person as consent records."""
    answers = {HISTORY: "Yes" if row["consented_to_share"] else "No"}
    answers |= {purpose: row[column] for purpose, (_, column) in USES.items()}
    states = {"Yes": "given", "No": "refused"}
    return tuple(
        consent_record(
            subject,
            at_ms,
            record_id=f"survey-{purpose}",
            purposes=(purpose,),
            state=states[answer],
            **({"valid_until_ms": FOREVER_MS} if answer == "Yes" else {}),
        )
        for purpose, answer in answers.items()
        if answer in states
    )


@dataclass(frozen=True, slots=True)
class Survey:
    """The survey, replayed in the order of its file."""

    replay: Replay
    rows: pl.DataFrame

    @property
    def row_of(self) -> dict[bytes, dict[str, Any]]:
        return {self.replay.person(row["row"]): row for row in self.rows.iter_rows(named=True)}

    def numbers(self, people: Sequence[bytes] | set[bytes]) -> set[int]:
        rows = self.row_of
        return {rows[who]["row"] for who in people}


def ask(file: Path, mapping: str = "answers") -> Survey:
    survey = Survey(Replay("consent_experiment"), pl.read_csv(file))
    rows = survey.row_of
    channel = survey.replay.mapping(mapping).channel
    arrivals = pieces(survey.replay.intake.csv(file, survey.replay.mapping(mapping)), channel)
    survey.replay.take(arrivals, on_meeting=lambda who, at_ms: said(who, rows[who], at_ms))
    return survey


@pytest.fixture(
    scope="module",
    params=[800, pytest.param(EVERYBODY, marks=pytest.mark.slow)],
    ids=["800 people", "everybody"],
)
def file(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The survey in the order of its file, as far as the test reads it."""
    if request.param == EVERYBODY:
        return shared_data / FILE
    path = tmp_path_factory.mktemp("survey") / "survey.csv"
    pl.read_csv(shared_data / FILE).head(request.param).write_csv(path)
    return path


@pytest.fixture(scope="module")
def survey(file: Path) -> Survey:
    return ask(file)


def test_every_answer_is_taken_in(survey: Survey) -> None:
    people = survey.rows.height
    assert survey.replay.intake_counts == {"received": people, "accepted": people}
    assert survey.replay.counts["accepted"] == people


def test_the_gate_opens_for_exactly_those_who_agreed_and_names_the_refusal_of_the_others(
    survey: Survey,
) -> None:
    orders = [made.order.subject for decisions in survey.replay.decided for made in decisions.orders]
    refusals = [refusal for decisions in survey.replay.decided for refusal in decisions.refusals]
    agreed = set(survey.rows.filter("consented_to_share")["row"])
    assert len(orders) == len(agreed)
    assert survey.numbers(orders) == agreed
    assert survey.numbers({refusal.subject for refusal in refusals}) == set(survey.rows["row"]) - agreed
    assert Counter(refusal.reason for refusal in refusals) == {"refused": survey.rows.height - len(agreed)}


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ("by_arm_and_shown", {"incentive_arm": "arm", "shown_own_data": "shown"}),
        ("by_age", {"age_group": "age_group"}),
        ("by_education", {"education": "education"}),
    ],
)
def test_what_flows_has_the_published_rates(
    survey: Survey, shared_data: Path, table: str, fields: dict[str, str]
) -> None:
    """Counted over what the orders show, not over the file; those who said no show nothing to count."""
    shown = [
        {field.name: field.value for field in made.order.fields}
        for decisions in survey.replay.decided
        for made in decisions.orders
    ]
    found = Counter(tuple(values[name] for name in fields.values()) for values in shown)
    agreed = survey.rows.filter("consented_to_share").group_by(*fields).len()
    assert found == {tuple(group): number for *group, number in agreed.iter_rows()}
    if survey.rows.height == EVERYBODY:
        exact = orjson.loads((shared_data / "exact_answers.json").read_bytes())["consent_experiment"][table]
        assert found == {tuple(group[column] for column in fields): group["sum"] for group in exact}


@pytest.mark.parametrize("purpose", USES)
def test_each_purpose_is_open_for_exactly_those_who_said_yes_to_it(survey: Survey, purpose: str) -> None:
    tag, column = USES[purpose]
    now = survey.replay.shard.clock_ms
    carried = survey.replay.members(tag, [now])[now]
    recent = survey.rows.with_columns(
        at=pl.col("recorded_ts").str.to_datetime().dt.replace_time_zone("America/New_York").dt.epoch("ms")
    ).filter(pl.col("at") > now - 60 * 86_400_000)
    assert survey.numbers(carried) == set(recent.filter(pl.col(column) == "Yes")["row"])
    ever = {change.subject for change in survey.replay.changes(tag)}
    assert survey.numbers(ever) == set(survey.rows.filter(pl.col(column) == "Yes")["row"])
    assert 0 < len(ever) < survey.rows.height


def test_events_of_those_who_refuse_are_turned_away_at_a_door_that_asks_for_consent(file: Path) -> None:
    survey = ask(file, "at-the-door")
    agreed = survey.rows["consented_to_share"].sum()
    assert survey.replay.intake_counts["accepted"] == survey.rows.height
    assert survey.replay.counts["accepted"] == agreed
    assert survey.replay.counts["not_collected"] == survey.rows.height - agreed > 0
    ever = {change.subject for change in survey.replay.changes("may-research")}
    both = survey.rows.filter(pl.col("consented_to_share") & (pl.col("ok_research_use") == "Yes"))
    assert survey.numbers(ever) == set(both["row"])


def test_an_arm_that_withdraws_one_purpose_loses_its_tag_and_keeps_the_others(file: Path) -> None:
    survey = ask(file)
    replay, now = survey.replay, survey.replay.shard.clock_ms
    before = {tag: replay.members(tag, [now])[now] for tag in ("shares", "may-research")}
    control = set(survey.rows.filter(pl.col("incentive_arm") == "control")["row"])
    for number in sorted(control):
        replay.withdraw(replay.person(number), HISTORY, now + 1)
    after = {tag: replay.members(tag, [now + 1])[now + 1] for tag in ("shares", "may-research")}
    assert survey.numbers(after["shares"]) == survey.numbers(before["shares"]) - control
    assert after["may-research"] == before["may-research"]
    left = [change for change in replay.changes("shares") if change.at_ms == now + 1]
    assert {(change.change, change.reason) for change in left} == {("leave", "consent")}
    assert len(left) == len(before["shares"]) - len(after["shares"]) > 0


@pytest.mark.parametrize(
    "people", [400, pytest.param(EVERYBODY, marks=pytest.mark.slow)], ids=["400 people", "everybody"]
)
def test_fragments_are_minted_for_those_who_agreed_and_their_reader_sees_their_answers(
    shared_data: Path, tmp_path: Path, people: int
) -> None:
    rows = pl.read_csv(shared_data / FILE).head(people)
    rows.write_csv(tmp_path / "survey.csv")
    world = World(policy_of("consent_experiment"))
    row_of = {world.person(str(row["row"])): row for row in rows.iter_rows(named=True)}
    mapping = mapping_of(world.engine.shard.policy, "answers")
    minted = 0
    for piece in pieces(world.engine.intake.csv(tmp_path / "survey.csv", mapping), "survey"):
        minted += take_and_open(world, piece, row_of, compare=minted < 60)
    assert minted == rows["consented_to_share"].sum()
    assert world.engine.fragments.minted == minted


def take_and_open(
    world: World, piece: Rows, row_of: Mapping[bytes, Mapping[str, Any]], *, compare: bool
) -> int:
    """Hear the people of a piece, take their answers in, and open what was minted as its reader would."""
    now = piece.received_ms
    people = subjects(piece.result.batch.subject)
    for who in people:
        for record in said(who, row_of[who], now):
            world.engine.consent(who, record, now)
    outcome = world.engine.take(piece.result, now)
    assert outcome.mint_refusals == ()
    subject_of = {made.order.order_id: made.order.subject for made in outcome.decisions.orders}
    for fragment in outcome.fragments if compare else ():
        row = row_of[subject_of[fragment.order_id]]
        assert row["consented_to_share"]
        assert world.open(fragment, now).values == {
            "arm": row["incentive_arm"],
            "shown": row["shown_own_data"],
            "age_group": row["age_group"],
            "education": row["education"],
        }
    return len(outcome.fragments)
