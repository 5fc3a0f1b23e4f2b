"""Plans, tables, tickets and services: what is run, on what, for whom, and until when."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.errors import (
    BadMessage,
    Declined,
    InvalidData,
    InvalidSetting,
    Refused,
    Replayed,
    WrongIdentity,
)
from dayfly.federation.identity import SigningIdentity
from dayfly.federation.runs import (
    PROTOCOLS,
    ChannelData,
    ConsentColumn,
    DataSettings,
    LocalFederation,
    Plan,
    Ticket,
    Tickets,
    opened_parcel,
    protocol_named,
)
from dayfly.federation.runs.vertical import VerticalPlan, scores_of
from dayfly.federation.wire import SERVER, Envelope, seal
from dayfly.privacy.noise import OpenDpNoise
from tests.federation.journal.worlds import (
    ALIGN,
    CHANNELS,
    HOUR_MS,
    NOW_MS,
    ServiceGrid,
    digest,
    keys,
    lives,
    settings_of,
    vertical_plan,
    write_tables,
)

RUN = digest("run")[:16]
KEYS, IDENTITIES = keys()
TABLE = pa.table(
    {
        "customer": ["a", "b", "c"],
        "spend": [1.5, 2.5, None],
        "visits": [3, 4, 5],
        "member": [True, False, True],
        "city": ["north", "south", "north"],
        "bought": [0.0, 1.0, 1.0],
    }
)


# --- tables --------------------------------------------------------------------------------------------------------------


def write_npz(table: pa.Table, path: Path) -> None:
    np.savez(path, **{name: np.array(table[name].to_pylist()) for name in table.column_names})  # type: ignore[arg-type]


def write_npy(table: pa.Table, path: Path) -> None:
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    rows = np.zeros(table.num_rows, [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    np.save(path, rows)


def write_csv(table: pa.Table, path: Path) -> None:
    import pyarrow.csv as pa_csv

    pa_csv.write_csv(table, path)


def write_feather(table: pa.Table, path: Path) -> None:
    feather.write_feather(table, str(path))


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".parquet": pq.write_table,
    ".feather": write_feather,
    ".csv": write_csv,
    ".npz": write_npz,
    ".npy": write_npy,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_reads_the_same_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    whole = TABLE.set_column(1, "spend", [[1.5, 2.5, 3.5]])
    WRITERS[suffix](whole, tmp_path / f"table{suffix}")
    settings = DataSettings(path=f"table{suffix}", customer="customer", label="bought", category="city")
    data = ChannelData.load("shop", settings, folder=tmp_path)
    assert data.features == ("spend", "visits", "member")
    assert data.matrix(data.features).tolist() == [[1.5, 3, 1], [2.5, 4, 0], [3.5, 5, 1]]
    assert data.labels("bought").tolist() == [0, 1, 1]
    assert data.categories() == {"a": "north", "b": "south", "c": "north"}


def data_of(**changes: Any) -> ChannelData:
    return ChannelData("shop", TABLE, DataSettings(path="-", **changes))


def test_missing_values_stay_missing() -> None:
    assert np.isnan(data_of().matrix(("spend",))[2, 0])


@pytest.mark.parametrize(
    ("settings", "file", "message"),
    [
        ({"path": "none.parquet"}, "", r"party='shop' has data in 'none.parquet' that cannot be read"),
        ({"path": "t.txt"}, "x", r"party='shop' has data in 't.txt', which is no .parquet"),
        ({"path": "t.parquet"}, "garbage", r"party='shop' has data in 't.parquet' that cannot be read"),
        (
            {"path": "t.csv", "label": "churn"},
            "a\n1\n",
            r"party='shop' has no columns \['churn'\] in 't.csv'",
        ),
        ({"path": "t.csv"}, "a,a\n1,2\n", r"party='shop' names columns \['a'\] twice"),
        ({"path": "t.csv"}, "a\n", r"party='shop' has no rows in 't.csv'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_the_party(
    tmp_path: Path, settings: dict[str, Any], file: str, message: str
) -> None:
    if file:
        (tmp_path / settings["path"]).write_text(file)
    with pytest.raises(InvalidData, match=message):
        ChannelData.load("shop", DataSettings(**settings), folder=tmp_path)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: data_of(features=("spend",)).matrix(("visits",)), r"does not offer features \['visits'\]"),
        (lambda: data_of(features=("city",)).matrix(("city",)), r"has string in 'city', which is no number"),
        (lambda: data_of().labels("bought"), r"has label None, not 'bought'"),
        (lambda: data_of().customers(), "has no customer column"),
        (lambda: data_of(customer="spend").customers(), "has 1 rows without 'spend'"),
        (lambda: data_of(customer="customer").categories(), "has no category column"),
        (lambda: data_of(customer="city", category="city").categories(), "has 1 customers twice"),
        (lambda: data_of().instants("city"), "has string in 'city', which is no instant"),
    ],
)
def test_what_a_table_does_not_have_is_told_with_the_party(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidData, match=f"party='shop' {message}"):
        ask()


# --- tickets -------------------------------------------------------------------------------------------------------------


def ticket(**changes: Any) -> Ticket:
    given = {"protocol": "glm", "terms": b"t", "began_ms": NOW_MS, "until_ms": NOW_MS + HOUR_MS}
    return Ticket(**{**given, **changes})


def frame(run: bytes = RUN, receiver: str = "shop", number: int = 1) -> bytes:
    return seal(KEYS[SERVER], Envelope(run, number, SERVER, receiver, "hello", b"x"), reply=False)


def opened(parcel: bytes, *, now_ms: int = NOW_MS) -> Any:
    return opened_parcel(parcel, IDENTITIES, me="shop", now_ms=now_ms)


def test_a_parcel_says_which_run_and_what() -> None:
    found = opened(Tickets(KEYS[SERVER], run=RUN, ticket=ticket())("shop", frame()))
    assert (found.run, found.ticket, found.frame) == (RUN, ticket(), frame())


def test_a_parcel_that_is_not_the_servers_for_this_channel_and_run_opens_nothing() -> None:
    wrap = Tickets(KEYS[SERVER], run=RUN, ticket=ticket())
    thief = Tickets(SigningIdentity(SERVER, digest("thief")), run=RUN, ticket=ticket())
    with pytest.raises(WrongIdentity, match="party='server' must sign its request"):
        opened(thief("shop", frame()))
    with pytest.raises(BadMessage, match="must send its own message to 'shop'"):
        opened(wrap("wifi", frame()))
    with pytest.raises(BadMessage, match="must send its own message to 'shop'"):
        opened(wrap("shop", frame(receiver="wifi")))
    with pytest.raises(Replayed, match="messages of the run that it opened"):
        opened(wrap("shop", frame(run=digest("other")[:16])))
    with pytest.raises(BadMessage, match="must send a parcel, not 7 bytes"):
        opened(b"garbage")
    import msgspec

    with pytest.raises(BadMessage, match="must send a ticket with each message, not 'hello'"):
        opened(msgspec.msgpack.encode([frame(), frame()]))


@pytest.mark.parametrize(("now_ms", "over"), [(NOW_MS + HOUR_MS - 1, False), (NOW_MS + HOUR_MS, True)])
def test_a_run_is_over_at_its_end(now_ms: int, over: bool) -> None:  # noqa: FBT001 - a parameter of the test
    parcel = Tickets(KEYS[SERVER], run=RUN, ticket=ticket())("shop", frame())
    if not over:
        assert opened(parcel, now_ms=now_ms).run == RUN
        return
    with pytest.raises(Replayed, match="messages of a run that is not over"):
        opened(parcel, now_ms=now_ms)


# --- protocols by name ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_refuses_settings_that_are_not_its_own(name: str) -> None:
    with pytest.raises(InvalidSetting, match="settings of the plan must be those of"):
        protocol_named(name).terms({"no such setting": 1})


def test_an_unknown_protocol_is_told_with_those_there_are() -> None:
    with pytest.raises(InvalidSetting, match="protocol='pool' must be one of align, glm"):
        protocol_named("pool")


@pytest.fixture
def federation(tmp_path: Path) -> LocalFederation:
    write_tables(tmp_path)
    return LocalFederation(
        [ChannelData.load(name, settings_of(name), folder=tmp_path / name) for name in CHANNELS],
        budgets={name: TrialBudget() for name in CHANNELS},
        random_bytes=os.urandom,
        noise=OpenDpNoise(),
        now_ms=lambda: NOW_MS,
    )


def test_alignment_and_training_run_in_one_process_within_the_messages_agreed(
    federation: LocalFederation,
) -> None:
    import msgspec

    steps: list[Any] = []
    aligned = federation.run(ALIGN, shown=steps.append)
    assert aligned.document["universe"] >= 120
    assert set(federation.messages.values()) == {6}
    plan = vertical_plan(aligned.document, steps=3)
    outcome = federation.run(plan, shown=steps.append)
    assert set(federation.messages.values()) == {12}  # the bar is 14
    assert [step["name"] for step in steps if step["step"] == "release"] == [
        "moments",
        *(f"gradient {n}" for n in (1, 2, 3)),
    ]
    model = outcome.model
    assert model is not None
    assert set(model.features) == {f"{name}_{column}" for name in CHANNELS for column in "ab"}
    spec = msgspec.convert(plan.settings, VerticalPlan).spec
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=(50, 2)) for name in CHANNELS}
    rows = {
        f"{name}_{column}": columns[name][:, place] for name in CHANNELS for place, column in enumerate("ab")
    }
    ours = scores_of(spec, outcome.arrays["weights"], columns)
    assert np.abs(ours - model.linear_predictor(rows)).max() < 1e-3


def test_training_without_an_alignment_names_the_party(federation: LocalFederation) -> None:
    never = {"alignment": digest("never")[:16].hex(), "universe": 200}
    with pytest.raises(InvalidData, match="party='app' has no rows of the alignment"):
        federation.run(vertical_plan(never))


def test_a_channel_without_consents_does_not_align(federation: LocalFederation) -> None:
    data = federation._channels["shop"]
    import msgspec

    federation._channels["shop"] = ChannelData(
        "shop", data.table, msgspec.structs.replace(data.settings, consent=None)
    )
    with pytest.raises(InvalidData, match="party='shop' has no consents"):
        federation.run(ALIGN)


def test_a_plan_names_channels_that_there_are(federation: LocalFederation) -> None:
    with pytest.raises(InvalidSetting, match=r"channels=\['hotline'\] must be among"):
        federation.run(Plan(protocol="align", settings={}, channels=("shop", "hotline")))


def test_the_consents_of_a_table_are_asked_for_again_at_training(tmp_path: Path) -> None:
    write_tables(tmp_path)
    grid = ServiceGrid(tmp_path, {})
    aligned = lives(tmp_path, ALIGN, grid, run=digest("alignment")[:16])
    path = tmp_path / "wifi" / "table.parquet"
    table = pq.read_table(path)
    until = table["until"].to_pylist()
    until[7] = None
    pq.write_table(table.set_column(table.column_names.index("until"), "until", [until]), path)
    with pytest.raises(Declined, match=r"party='wifi' declined .*withdrawn since they were aligned"):
        lives(tmp_path, vertical_plan(aligned.document), grid, run=RUN)
    grid.close()
    assert ConsentColumn(until="until", country="DE").country == "DE"


# --- a channel's service -------------------------------------------------------------------------------------------------


def test_a_run_that_ended_is_never_opened_again(tmp_path: Path) -> None:
    write_tables(tmp_path)
    grid = ServiceGrid(tmp_path, {})
    lives(tmp_path, ALIGN, grid, run=RUN)
    service = grid.services["app"][0]
    service.end(RUN)
    assert [path.name.endswith(".done") for path in (tmp_path / "app" / "journals").glob("*-*")] == [True]
    with pytest.raises(Declined, match=r"party='app' declined .*messages of a run that is not over"):
        lives(tmp_path, ALIGN, grid, run=RUN)
    service.end(digest("unknown")[:16])
    grid.close()


def test_a_channel_takes_part_in_what_it_says_alone(tmp_path: Path) -> None:
    write_tables(tmp_path)
    grid = ServiceGrid(tmp_path, {})
    service = grid.services["shop"][0]
    parcel = Tickets(KEYS[SERVER], run=RUN, ticket=ticket())("shop", frame())
    with pytest.raises(Refused, match="protocol='glm' must be one that 'shop' takes part in: \\['align'"):
        service.handle(parcel)
    assert list((tmp_path / "shop" / "journals").glob("*-*")) == []
    grid.close()
