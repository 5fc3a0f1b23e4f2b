"""A folder of YAML becomes one policy, or every finding with file, line and column."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.catalog import FieldType
from dayfly.engine.errors import PolicyError
from dayfly.engine.policy.load import (
    MAX_FILES,
    check_folder,
    example_policy_folder,
    load_policy,
    policy_from_documents,
    policy_from_source,
)
from dayfly.engine.policy.model import Settings
from dayfly.engine.tags.text import parse_expression, parse_measure, parse_predicate
from dayfly.engine.tags.tree import EventMatch
from dayfly.engine.triggers import Contradiction, OnEvent, OnTag, TagHeld, TagValue

CATALOG = """\
kind: catalog
events:
  Viewed:
    fields:
      item: {type: string, required: true}
      price: number
      at: time
      new: boolean
  Cancelled:
    fields: {item: string}
"""
CHANNELS = """\
kind: channels
channels:
  app: {form: segment, source: app.example, collect_under: service}
  wifi: {probe: true, correct_clock_skew: false}
"""
CONSENT = """\
kind: consent
purposes: {service: s, marketing: m}
topics: {sofa: s}
data_categories: {behaviour: b}
platforms:
  app:
    terms: {jurisdiction: CN}
    categories:
      yes-please:
        scope: {purposes: [service], topics: [sofa], data_categories: [behaviour], recipients: [crm], channels: ["*"], recipient_countries: [CN]}
        validity_seconds: 60
        max_uses: 1
"""
TAGS = """\
kind: tags
tags:
  - tag: keen
    purpose: service.advice
    topic: sofa.leather
    when: 'count("Viewed", within: 168h) > 5'
    captures:
      items: 'distinct("Viewed", properties.item, within: 7d)'
    version: 3
    description: d
"""
TRIGGERS = """\
kind: triggers
triggers:
  - trigger: call
    when: {event: Viewed, where: properties.price > 10}
    audience: crm
    purpose: service
    topic: sofa
    ttl: 10m
    uses: 2
    cooldown: 1h
    recipient_country: DE
    version: 4
    fields:
      item: {measure: 'last("Viewed", properties.item, within: 1h)', data_category: behaviour, masking: {mask: truncate, characters: 3}, sensitive: true}
      keen: {tag: keen, data_category: behaviour}
      items: {tag: keen, capture: items, data_category: behaviour}
contradictions:
  - name: gone
    when: {event: Cancelled}
    field: item
    values: [sofa]
    key_field: item
"""
BASE = {
    "catalog.yaml": CATALOG,
    "channels.yaml": CHANNELS,
    "consent.yaml": CONSENT,
    "tags.yaml": TAGS,
    "triggers.yaml": TRIGGERS,
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def files(**changed: str) -> Path:
        for name, text in {
            **BASE,
            **{key.replace("__", "/").replace("_yaml", ".yaml"): text for key, text in changed.items()},
        }.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return files


def found(folder: Path) -> list[str]:
    return [str(problem) for problem in check_folder(folder)]


def test_folder_becomes_the_policy_it_declares(write: Write) -> None:
    policy = load_policy(write(), version=7)
    assert policy.version == 7
    assert [event.name for event in policy.catalog.types] == ["Viewed", "Cancelled"]
    assert [(spec.name, spec.type, spec.required) for spec in policy.catalog.types[0].fields] == [
        ("item", FieldType.STRING, True),
        ("price", FieldType.NUMBER, False),
        ("at", FieldType.TIME, False),
        ("new", FieldType.BOOLEAN, False),
    ]
    assert policy.catalog.channels == ("app", "wifi")
    app, wifi = policy.channels
    assert (app.form, app.source, app.collect_under, app.probe, app.correct_clock_skew) == (
        "segment",
        "app.example",
        "service",
        False,
        True,
    )
    assert (wifi.source, wifi.probe, wifi.correct_clock_skew, wifi.consent) == ("wifi", True, False, None)
    assert app.consent is not None
    assert app.consent.categories["yes-please"].scope.purposes == ("service",)
    assert dict(app.consent_categories).keys() == {"yes-please"}
    assert dict(policy.purposes) == {"service": "s", "marketing": "m"}
    assert policy.settings == Settings()


def test_tags_and_triggers_are_those_of_the_documents(write: Write) -> None:
    policy = load_policy(write(), version=1)
    (keen,) = policy.tags
    assert keen.when == parse_expression('count("Viewed", within: 7d) > 5')
    assert keen.text == 'count("Viewed", within: 7d) > 5'
    assert (keen.name, keen.purpose, keen.topic, keen.version, keen.description) == (
        "keen",
        "service.advice",
        "sofa.leather",
        3,
        "d",
    )
    assert [(item.name, item.measure) for item in keen.captures] == [
        ("items", parse_measure('distinct("Viewed", properties.item, within: 7d)'))
    ]
    (call,) = policy.triggers
    assert call.when == OnEvent(EventMatch("Viewed", parse_predicate("properties.price > 10")))
    assert (call.ttl_seconds, call.uses, call.cooldown_seconds, call.recipient_country, call.version) == (
        600,
        2,
        3600,
        "DE",
        4,
    )
    item, held, value = call.fields
    assert item.source == parse_measure('last("Viewed", properties.item, within: 1h)')
    assert (item.masking, item.sensitive, item.data_category) == (
        {"mask": "truncate", "characters": 3},
        True,
        "behaviour",
    )
    assert (held.source, value.source) == (TagHeld("keen"), TagValue("keen", "items"))
    assert '"trigger":"call"' in call.text
    assert policy.contradictions == (
        Contradiction("gone", EventMatch("Cancelled"), "item", ("sofa",), "properties.item"),
    )


def test_defaults_of_a_trigger_are_the_documented_ones(write: Write) -> None:
    text = TRIGGERS.split("    ttl", maxsplit=1)[0].replace(
        "{event: Viewed, where: properties.price > 10}", "{tag: keen}"
    )
    policy = load_policy(
        write(triggers_yaml=text + "    fields: {keen: {tag: keen, data_category: behaviour}}\n"), version=1
    )
    (call,) = policy.triggers
    assert call.when == OnTag("keen")
    assert (call.ttl_seconds, call.uses, call.profile, call.cooldown_seconds, call.recipient_country) == (
        1800,
        None,
        "F1",
        0,
        "CN",
    )


def test_source_rebuilds_the_identical_policy(write: Write) -> None:
    policy = load_policy(write(settings_yaml="kind: settings\nhistory: 30d\n"), version=9)
    again = policy_from_source(policy.source)
    assert again == policy
    assert again.settings.history_ms == 30 * 86_400_000


def test_digest_is_of_the_documents_and_not_of_the_version_or_the_file_names(
    write: Write, tmp_path: Path
) -> None:
    policy = load_policy(write(), version=1)
    assert load_policy(tmp_path, version=2).digest == policy.digest
    documents = [yaml.safe_load(text) for text in BASE.values()]
    assert policy_from_documents(documents, version=1).digest == policy.digest
    (tmp_path / "all.yaml").write_text("\n---\n".join(reversed(BASE.values())))
    for name in BASE:
        (tmp_path / name).unlink()
    assert load_policy(tmp_path, version=1) == policy
    (tmp_path / "all.yaml").write_text("\n---\n".join(BASE.values()).replace("> 5", "> 6"))
    assert load_policy(tmp_path, version=1).digest != policy.digest


def test_documents_may_be_given_by_kind() -> None:
    by_kind = {text.split("\n")[0].removeprefix("kind: "): yaml.safe_load(text) for text in BASE.values()}
    listed = policy_from_documents([yaml.safe_load(text) for text in BASE.values()], version=1)
    assert policy_from_documents(by_kind, version=1) == listed


def test_object_form_gives_the_same_tag_as_text(write: Write) -> None:
    objects = TAGS.replace(
        """'count("Viewed", within: 168h) > 5'""",
        "{type: compare, operator: '>', value: 5, measure: {type: count, event: Viewed, within: 7d}}",
    )
    assert load_policy(write(tags_yaml=objects), version=1).tags == load_policy(write(), version=1).tags


def test_mappings_and_transfers_are_read(write: Write) -> None:
    mapping = "kind: mapping\nname: m\nchannel: app\nevent: {constant: Viewed}\nid: {row_digest: true}\nsubject: {column: who}\ntime: {column: at}\nfields: {item: item}\n"
    rows = "{recipient_country: DE, recipient: crm, field_class: ordinary, legal_basis: contract, valid_from: 2026-01-01T00:00:00Z, valid_until: 2027-01-01T00:00:00Z, list_version: v1}"
    policy = load_policy(
        write(m_yaml=mapping, t_yaml=f"kind: transfers\nhome_country: CN\nrows: [{rows}]\n"), version=1
    )
    assert getattr(policy.mappings["m"], "channel", None) == "app"
    assert policy.transfer_table is not None
    assert policy.transfer_table.rows[0].valid_from_ms == 1_767_225_600_000
    assert policy.transfers[0]["recipient"] == "crm"


# --- every finding, with its place -----------------------------------------------------------------------------------


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


FINDINGS = [
    # shape
    ("catalog", "price: number", "price: float", "catalog.yaml:6:14: price='float' must be one of: string, number, boolean, time"),
    ("catalog", "required: true", "needed: true", "catalog.yaml:5:28: key='needed' must be one of: type, masking, required, description"),
    ("catalog", "required: true", "required: 1", "catalog.yaml:5:38: required=1 must be of type boolean"),
    ("catalog", "kind: catalog", "kind: catalogue", "catalog.yaml:1:7: kind='catalogue' must be one of: catalog, channels"),
    ("catalog", "kind: catalog", "king: catalog", "catalog.yaml:1:1: key='kind' must be given"),
    ("tags", "    purpose: service.advice\n", "", "tags.yaml:3:5: key='purpose' must be given; add it"),
    ("tags", "version: 3", "version: 0", "tags.yaml:9:14: version=0 must follow the schema (0 is less than the minimum of 1)"),
    ("tags", "topic: sofa.leather", "topic: Sofa", "tags.yaml:5:12: topic='Sofa' must match"),
    ("triggers", "ttl: 10m", "ttl: 10", "triggers.yaml:8:10: ttl=10 must be of type string"),
    ("triggers", "ttl: 10m", "ttl: ten", "triggers.yaml:8:10: ttl='ten' must match ^[0-9]{1,15}(ms|s|m|h|d|w)$; write for example 30m or 7d"),
    ("triggers", "uses: 2", "uses: 0", "triggers.yaml:9:11: uses=0 must follow the schema"),
    ("triggers", "where:", "were:", "triggers.yaml:4:27: key='were' must be one of: event, where"),
    # catalogue, channels, consent
    ("catalog", "price: number", "pr/ce: number", "catalog.yaml:6:7: field part='`pr/ce`' must be letters"),
    ("catalog", "type: string, required", "type: string, masking: {mask: band, edges: [1]}, required", "catalog.yaml:5:37: masking={'mask': 'band', 'edges': [1]} must fit a string value"),
    ("catalog", "price: number", "price: {type: number, masking: {mask: band, edges: [1]}}", "catalog.yaml:6:38: masking=band must not stand in the catalogue"),
    ("catalog", "price: number", "price: {type: number, masking: {mask: blur}}", "catalog.yaml:6:38: masking="),
    ("catalog", "price: number", "price: {type: number, masking: hide}", "catalog.yaml:6:38: masking='hide' must be one of: keep, drop"),
    ("channels", "collect_under: service", "collect_under: sales", "channels.yaml:3:60: collect_under='sales' must be declared in a consent document; declare it or use one of: service, marketing"),
    ("consent", "validity_seconds: 60", "validity_seconds: 0", "consent.yaml:7:5: mapping="),
    ("consent", "  app:\n", "  fax:\n", "consent.yaml:6:3: channel='fax' must be declared; use one of: app, wifi"),
    ("consent", "topics: [sofa]", "topics: [bed]", "consent.yaml:10:47: topics='bed' must be declared in a consent document"),
    ("consent", "topics: {sofa: s}", "topics: {Sofa: s}", "consent.yaml:3:9: topics='Sofa' must match"),
    # tags
    ("tags", "tag: keen", "tag: Keen", "tags.yaml:3:10: tag='Keen' must be lower-case words"),
    ("tags", 'Viewed", within: 168h', 'Seen", within: 168h', "tags.yaml:6:18: event='Seen' must be declared in the catalogue"),
    ("tags", "168h) > 5", "168h) >", "tags.yaml:6:43: found=the end must be"),
    ("tags", "168h) > 5", "168h) > 0.5", "tags.yaml:6:44: count > 0.5 must compare to a whole number"),
    ("tags", "properties.item", "properties.itm", "tags.yaml:8:34: field=properties.itm must be declared for event 'Viewed'; declare it or use properties.item"),
    ("tags", "items: 'distinct", "Items: 'distinct", "tags.yaml:8:7: capture='Items' must be lower-case letters"),
    ("tags", "items: 'distinct(", "items: 'distinkt(", "tags.yaml:8:15: distinkt("),
    ("tags", "purpose: service.advice", "purpose: sales", "tags.yaml:4:14: purpose='sales' must be declared in a consent document"),
    ("tags", "topic: sofa.leather", "topic: bed", "tags.yaml:5:12: topic='bed' must be declared in a consent document"),
    ("tags", "tag: keen", "tag: &n keen", None),
    # triggers
    ("triggers", "trigger: call", "trigger: Call", "triggers.yaml:3:14: trigger='Call' must be lower-case words"),
    ("triggers", "event: Viewed", "event: Seen", "triggers.yaml:4:19: event='Seen' must be declared in the catalogue"),
    ("triggers", "properties.price > 10", "properties.price > ten", "triggers.yaml:4:53: ten must be a value"),
    ("triggers", "properties.price > 10", "properties.item > 10", "triggers.yaml:4:34: properties.item > must compare a number or a time"),
    ("triggers", "audience: crm", 'audience: "*"', "triggers.yaml:5:15: audience='*' must be one value"),
    ("triggers", "purpose: service", 'purpose: "*"', "triggers.yaml:6:14: purpose='*' must be one value"),
    ("triggers", "purpose: service", "purpose: sales", "triggers.yaml:6:14: purpose='sales' must be declared"),
    ("triggers", "topic: sofa", "topic: bed", "triggers.yaml:7:12: topic='bed' must be declared"),
    ("triggers", "ttl: 10m", "ttl: 1801s", "triggers.yaml:8:10: ttl='1801s' must lie between 1s and 30m for profile F1"),
    ("triggers", "ttl: 10m", "ttl: 1800s", None),
    ("triggers", "ttl: 10m", "ttl: 0s", "ttl='0s' must lie between 1s and 30m"),
    ("triggers", "ttl: 10m", "ttl: 1500ms", "ttl='1500ms' must be whole seconds"),
    ("triggers", "ttl: 10m", "profile: F0\n    ttl: 301s", "triggers.yaml:9:10: ttl='301s' must lie between 1s and 5m for profile F0"),
    ("triggers", "ttl: 10m", "profile: F0\n    ttl: 300s", None),
    ("triggers", "ttl: 10m", "profile: F2\n    ttl: 10m", "triggers.yaml:15:7: field='item' must be true or false, unmasked, in profile F2"),
    ("triggers", "cooldown: 1h", "cooldown: 1ms", "triggers.yaml:10:15: cooldown='1ms' must be whole seconds"),
    ("triggers", "recipient_country: DE", "recipient_country: de", "triggers.yaml:11:24: recipient_country='de' must match"),
    ("triggers", "      item: {measure", "      sub: {measure", "triggers.yaml:14:7: field='sub' must be 1 to 64 letters"),
    ("triggers", "      item: {measure", "      a b: {measure", "triggers.yaml:14:7: field='a b' must be 1 to 64 letters"),
    ("triggers", "data_category: behaviour, masking", "data_category: health, masking", "triggers.yaml:14:85: data_category='health' must be declared"),
    ("triggers", "{mask: truncate, characters: 3}", "{mask: truncate, decimals: 3}", "triggers.yaml:14:105: masking={'mask': 'truncate', 'decimals': 3} must fit a string value"),
    ("triggers", "{mask: truncate, characters: 3}", "{mask: band, edges: [3, 1]}", "triggers.yaml:14:105: edges=(3, 1) must be finite and strictly ascending"),
    ("triggers", "properties.item, within: 1h", "properties.item, within: 999d", "triggers.yaml:14:64: within=999d must be at most the kept history"),
    ("triggers", "keen: {tag: keen,", "keen: {tag: kean,", "triggers.yaml:15:19: tag='kean' must be declared; declare it or use one of: keen"),
    ("triggers", "capture: items", "capture: item", "triggers.yaml:16:35: capture='item' must be a captured value of tag 'keen'; use one of: items"),
    ("triggers", "keen: {tag: keen,", "keen: {", "triggers.yaml:15:7: source must be measure, or tag, or tag with capture"),
    ("triggers", "keen: {tag: keen,", "keen: {tag: keen, measure: 'count(\"Viewed\", within: 1d)',", "triggers.yaml:15:7: source must be measure"),
    ("triggers", "name: gone", "name: Gone", "triggers.yaml:18:11: contradiction='Gone' must be lower-case words"),
    ("triggers", "field: item\n", "field: itme\n", "triggers.yaml:20:12: field='itme' must be a field of some trigger; use one of: item, items, keen"),
    ("triggers", "key_field: item", "key_field: order", "triggers.yaml:22:16: key_field='properties.order' must be declared for event 'Cancelled'"),
    ("triggers", "{event: Cancelled}", "{event: Cancel}", "triggers.yaml:19:19: event='Cancel' must be declared in the catalogue; declare it or use Cancelled"),
    ("triggers", "values: [sofa]", "values: []", "triggers.yaml:21:13: values=[] must follow the schema"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "old", "new", "expected"),
    FINDINGS,
    ids=[f"{kind}-{new or 'removed'}-{at}" for at, (kind, _, new, _) in enumerate(FINDINGS)],
)
def test_finding_has_file_line_column_and_way_out(
    write: Write, kind: str, old: str, new: str, expected: str | None
) -> None:
    problems = found(write(**{f"{kind}_yaml": changed(BASE[f"{kind}.yaml"], old, new)}))
    if expected is None:
        assert problems == []
    else:
        assert any(expected in problem for problem in problems), problems
        assert len(problems) <= 3
        assert all("; " in problem for problem in problems)


ADDED = [
    ("tags", TAGS, "x.yaml:3:10: tag='keen' must be named once; rename one"),
    ("triggers", TRIGGERS, "x.yaml:3:14: trigger='call' must be named once; rename one"),
    ("triggers", TRIGGERS, "x.yaml:18:11: contradiction='gone' must be lower-case words joined by hyphens, and named once"),
    ("catalog", "kind: catalog\nevents: {Viewed: {}}\n", "x.yaml:2:10: event='Viewed' must be declared once"),
    ("channels", "kind: channels\nchannels: {app: {}}\n", "x.yaml:2:12: channel='app' must be declared once"),
    ("consent", "kind: consent\ntopics: {sofa: s}\n", "x.yaml:2:10: topics='sofa' must be declared once"),
    ("settings", "kind: settings\nhistory: 1d\n---\nkind: settings\nhistory: 1d\n", "x.yaml:5:10: history='1d' must be set once"),
    ("settings", "kind: settings\nhistory: 0d\n", "x.yaml:2:10: history='0d' must be above zero"),
    ("settings", "kind: settings\nhistory: 1d\n", "x.yaml:1:1: allowed_lateness=7d must be at most history=1d"),
    ("settings", "kind: settings\ntag_data_category: health\n", "x.yaml:2:20: tag_data_category='health' must be declared"),
    ("settings", "kind: settings\nmax_depth: 65\n", "x.yaml:2:12: max_depth=65 must follow the schema"),
    ("transfers", "kind: transfers\nhome_country: CN\nrows: [{recipient: crm}]\n", "x.yaml:3:8: key='recipient_country' must be given"),
    ("transfers", "kind: transfers\nhome_country: CN\nrows: []\n---\nkind: transfers\nhome_country: CN\nrows: []\n", "x.yaml:5:1: transfers must be one document"),
    ("mapping", "kind: mapping\nname: m\nchannel: fax\nevent: {constant: Viewed}\nid: {row_digest: true}\nsubject: {column: w}\ntime: {column: t}\n", "x.yaml:1:1: channel='fax' must be declared"),
    ("mapping", "kind: mapping\nname: m\nchannel: app\nevent: {}\nid: {row_digest: true}\nsubject: {column: w}\ntime: {column: t}\n", "x.yaml:1:1: event must have exactly one of constant and column"),
    ("mapping", "kind: mapping\nname: m\nchannel: app\nevent: {constant: Viewed}\nid: {rows: 1}\nsubject: {column: w}\ntime: {column: t}\n", "x.yaml:1:1: mapping must follow its schema"),
    ("list", "- kind: tags\n  tags: []\n- 7\n", "x.yaml:3:3: document=7 must be of type object"),
    ("none", "kind: \n", "x.yaml:1:6: kind=None must be one of"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "expected"), ADDED, ids=[f"{kind}-{at}" for at, (kind, _, _) in enumerate(ADDED)]
)
def test_finding_across_files_has_its_place(write: Write, kind: str, text: str, expected: str) -> None:
    problems = found(write(x_yaml=text))
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(("fields", "refused"), [(64, 0), (65, 1)])
def test_fields_of_a_trigger_are_bounded(write: Write, fields: int, refused: int) -> None:
    more = "".join(f"      f{at}: {{tag: keen, data_category: behaviour}}\n" for at in range(fields - 3))
    assert (
        len(found(write(triggers_yaml=changed(TRIGGERS, "contradictions:", f"{more}contradictions:"))))
        == refused
    )


def test_list_of_booleans_is_no_answer(write: Write) -> None:
    capture = changed(TAGS, "properties.item", "properties.new")
    answers = changed(TRIGGERS.split("      item:", maxsplit=1)[0], "ttl: 10m", "profile: F2")
    only = answers + "      all: {tag: keen, capture: items, data_category: behaviour}\n"
    assert "field='all' must be true or false" in found(write(tags_yaml=capture, triggers_yaml=only))[0]


@pytest.mark.parametrize(("history", "refused"), [("7d", 0), ("604799999ms", 2)])
def test_lateness_reaches_at_most_as_far_as_history(write: Write, history: str, refused: int) -> None:
    assert (
        len(
            found(
                write(x_yaml=f"kind: settings\nhistory: {history}\n", tags_yaml=TAGS.replace("168h", "167h"))
            )
        )
        == refused
    )


OBJECTS = [
    (
        "tags",
        """'count("Viewed", within: 168h) > 5'""",
        "{type: absent, event: Viewed, within: 1d, where: {type: has, field: properties.itm}}",
        "tags.yaml:6:79: field=properties.itm must be declared",
    ),
    (
        "tags",
        """'count("Viewed", within: 168h) > 5'""",
        "{type: absent, event: Viewed, within: soon}",
        "tags.yaml:6:49: within='soon' must match",
    ),
    (
        "tags",
        """'count("Viewed", within: 168h) > 5'""",
        "{type: absent, event: Viewed, within: 1d, where: {type: has, field: item}}",
        "tags.yaml:6:79: field='item' must start with properties.",
    ),
    (
        "tags",
        """'distinct("Viewed", properties.item, within: 7d)'""",
        "{type: distinct, event: Viewed, field: properties.itm, within: 7d}",
        "tags.yaml:8:53: field=properties.itm must be declared",
    ),
    (
        "tags",
        """'distinct("Viewed", properties.item, within: 7d)'""",
        "{type: distinct, event: Viewed, field: itm, within: 7d}",
        "tags.yaml:8:53: field='itm' must start with properties.",
    ),
    (
        "triggers",
        "where: properties.price > 10",
        "where: {type: has, field: properties.cost}",
        "triggers.yaml:4:53: field=properties.cost must be declared",
    ),
]


@pytest.mark.parametrize(
    ("kind", "old", "new", "expected"), OBJECTS, ids=[str(at) for at in range(len(OBJECTS))]
)
def test_finding_in_the_object_form_has_the_place_of_its_node(
    write: Write, kind: str, old: str, new: str, expected: str
) -> None:
    problems = found(write(**{f"{kind}_yaml": changed(BASE[f"{kind}.yaml"], old, new)}))
    assert any(problem.startswith(expected) for problem in problems), problems


def test_unreadable_bytes_of_a_file_are_a_finding(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    folder = write()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert found(folder)[0].startswith(
        "catalog.yaml:0:0: file must be readable: Permission denied; fix its permissions"
    )


def test_findings_of_all_files_are_told_at_once_in_order(write: Write) -> None:
    folder = write(
        tags_yaml=changed(changed(TAGS, "168h) > 5", "0s) == 0"), "properties.item", "properties.x"),
        triggers_yaml=changed(changed(TRIGGERS, "ttl: 10m", "ttl: 99m"), "audience: crm", 'audience: "*"'),
        catalog_yaml=changed(CATALOG, "at: time", "at: date"),
        more__deep_yaml="kind: tags\ntags:\n  - tag: Deep\n    purpose: service\n    topic: sofa\n    when: in_tag('Deep')\n",
    )
    problems = check_folder(folder)
    assert [problem.file for problem in problems] == sorted(problem.file for problem in problems)
    assert {problem.file for problem in problems} == {
        "catalog.yaml",
        "more/deep.yaml",
        "tags.yaml",
        "triggers.yaml",
    }
    with pytest.raises(
        PolicyError, match=r"policy must have no problems, it has \d+; correct them:"
    ) as refused:
        load_policy(folder, version=1)
    assert refused.value.problems == problems


def test_unreadable_file_does_not_blame_the_others(write: Write) -> None:
    assert found(write(catalog_yaml="kind: catalog\nevents: {")) == [
        "catalog.yaml:3:1: YAML must be well formed: did not find expected node content; correct the file there"
    ]


def test_refused_tag_is_blamed_once_and_not_where_it_is_used(write: Write) -> None:
    problems = found(write(tags_yaml=changed(TAGS, "> 5", "> nope")))
    assert len(problems) == 1
    assert problems[0].startswith("tags.yaml:6:44: nope must be a value")


def test_policy_without_catalogue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CHANNELS)
    assert "catalog must be declared" in found(tmp_path)[0]


@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.write_text("x"), lambda path: path.mkdir()],
    ids=["absent", "file", "empty"],
)
def test_folder_without_policy_is_refused(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "policy")
    (problem,) = check_folder(tmp_path / "policy")
    assert "must be a folder" in problem.message or "must hold 1 to 1000 files" in problem.message
    with pytest.raises(PolicyError, match="; "):
        load_policy(tmp_path / "policy", version=1)


@pytest.mark.parametrize(("files", "refused"), [(MAX_FILES, 0), (MAX_FILES + 1, 1)])
def test_number_of_files_is_bounded(tmp_path: Path, files: int, refused: int) -> None:
    (tmp_path / "a.yaml").write_text("kind: catalog\nevents: {}\n")
    for at in range(files - 1):
        (tmp_path / f"f{at}.yml").touch()
    assert len(check_folder(tmp_path)) == refused


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"version":"1","documents":[]}',
        b'{"version":1,"documents":{}}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda source: repr(source[:12]),
)
def test_bytes_that_are_no_source_are_refused(source: bytes) -> None:
    with pytest.raises(PolicyError, match=r"must be Policy.source; pass it unchanged"):
        policy_from_source(source)


def test_document_in_memory_is_refused_with_the_way_to_the_part() -> None:
    documents = [yaml.safe_load(text) for text in BASE.values()]
    documents[3]["tags"][0]["when"] = {"type": "absent", "event": "Seen", "within": "1d"}
    with pytest.raises(
        PolicyError, match=r"documents\[3\]:0:0: at \$.tags\[0\].when: event='Seen' must be declared"
    ):
        policy_from_documents(documents, version=1)


# --- fuzz ------------------------------------------------------------------------------------------------------------

EXAMPLE = {
    path.name: path.read_text(encoding="utf-8") for path in sorted(example_policy_folder().glob("*.yaml"))
}


@given(st.sampled_from(sorted(EXAMPLE)), st.data())
def test_any_mutation_of_a_policy_is_loaded_or_refused_with_places(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    lines = EXAMPLE[name].split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    start = data.draw(st.integers(0, max(0, len(lines[at]) - 1)))
    put = data.draw(
        st.sampled_from(
            [
                "",
                " ",
                ":",
                "'",
                '"',
                "[",
                "{}",
                "null",
                "1",
                "x: ",
                "- ",
                "*",
                "&a ",
                "\n",
                "properties.",
                "> 0",
                "7d",
                "小",
            ]
        )
    )
    lines[at] = lines[at][:start] + put + lines[at][start + data.draw(st.integers(0, 6)) :]
    folder = tmp_path_factory.mktemp("policy")
    for other, text in {**EXAMPLE, name: "\n".join(lines)}.items():
        (folder / other).write_text(text, encoding="utf-8")
    problems = check_folder(folder)
    assert all(problem.line >= 1 and "; " in problem.message for problem in problems)
    if not problems:
        policy = load_policy(folder, version=1)
        assert policy_from_source(policy.source) == policy


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**6)
    | st.text(max_size=4)
    | st.sampled_from(["catalog", "tags", "7d", "keep", "Viewed", "string"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "kind",
                    "events",
                    "fields",
                    "type",
                    "tags",
                    "tag",
                    "when",
                    "purpose",
                    "topic",
                    "triggers",
                    "channels",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "kind",
                    "events",
                    "tags",
                    "triggers",
                    "contradictions",
                    "channels",
                    "purposes",
                    "platforms",
                    "rows",
                    "name",
                ]
            ),
            JSON,
            max_size=4,
        ),
        max_size=3,
    )
)
def test_any_documents_are_a_policy_or_refused(documents: list[Any]) -> None:
    try:
        policy = policy_from_documents(documents, version=1)
    except PolicyError as error:
        assert error.problems  # noqa: PT017 - either outcome is right, this is about the findings
    else:
        assert replace(policy, version=2).digest == policy.digest
