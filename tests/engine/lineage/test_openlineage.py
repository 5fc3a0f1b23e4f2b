"""The OpenLineage export is what the project's own client would have sent."""

import json
from typing import Any
from uuid import UUID

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.column_lineage_dataset import (
    ColumnLineageDatasetFacet,
    Fields,
    InputField,
    Transformation,
)
from openlineage.client.generated.lineage import (
    LineageDatasetFacet,
    LineageDatasetInput,
    LineageFieldEntry,
    LineageTransformation,
)
from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields
from openlineage.client.serde import Serde

from dayfly.engine.lineage import FragmentLineage, LineageStore, to_openlineage

from .support import KEY, SHAPE, order, sofa_block


def fragment(fields: list[str] | None = None) -> FragmentLineage:
    store = LineageStore.in_memory(subject_key=KEY)
    store.declare([SHAPE])
    store.put("jti-1", order(block=sofa_block(fields=fields)))
    return store.fragment("jti-1")


def output(event: dict[str, Any]) -> dict[str, Any]:
    (found,) = event["outputs"]
    return dict(found)


def rebuilt(event: dict[str, Any]) -> dict[str, Any]:
    """The same event made with the client's classes, whose constructors check, and written by its serialiser."""
    facets = output(event)["facets"]
    producer = event["producer"]
    schema = SchemaDatasetFacet(
        fields=[
            SchemaDatasetFacetFields(field["name"], description=field["description"])
            for field in facets["schema"]["fields"]
        ],
        producer=producer,
    )
    columns = ColumnLineageDatasetFacet(
        fields={
            name: Fields(
                [
                    InputField(
                        i["namespace"],
                        i["name"],
                        i["field"],
                        [Transformation(**t) for t in i["transformations"]],
                    )
                    for i in entry["inputFields"]
                ]
            )
            for name, entry in facets["columnLineage"]["fields"].items()
        },
        producer=producer,
    )
    lineage = LineageDatasetFacet(
        fields={
            name: LineageFieldEntry(
                [
                    LineageDatasetInput(
                        **{**i, "transformations": [LineageTransformation(**t) for t in i["transformations"]]}
                    )
                    for i in entry["inputs"]
                ]
            )
            for name, entry in facets["lineage"]["fields"].items()
        },
        producer=producer,
    )
    made = RunEvent(
        eventTime=event["eventTime"],
        producer=producer,
        run=Run(runId=event["run"]["runId"]),
        job=Job(event["job"]["namespace"], event["job"]["name"]),
        eventType=RunState(event["eventType"]),
        inputs=[InputDataset(found["namespace"], found["name"]) for found in event["inputs"]],
        outputs=[
            OutputDataset(
                output(event)["namespace"],
                output(event)["name"],
                facets={"schema": schema, "columnLineage": columns, "lineage": lineage},
            )
        ],
    )
    return dict(json.loads(Serde.to_json(made)))


def lean(value: Any) -> Any:
    """Without empty lists and objects, which the client writes for its defaults."""
    if isinstance(value, dict):
        return {name: kept for name, found in value.items() if (kept := lean(found)) not in ({}, [])}
    return [lean(found) for found in value] if isinstance(value, list) else value


def test_the_projects_own_client_makes_the_same_event() -> None:
    event: dict[str, Any] = to_openlineage(fragment())
    assert lean(rebuilt(event)) == lean(json.loads(json.dumps(event)))


def test_the_run_id_is_a_uuid_that_a_repeated_export_repeats() -> None:
    first: dict[str, Any] = to_openlineage(fragment())
    again: dict[str, Any] = to_openlineage(fragment())
    assert first == again
    run_id = UUID(first["run"]["runId"])
    assert (run_id.version, run_id.variant) == (8, "specified in RFC 4122")


def test_data_sets_and_job_are_named_after_events_audience_and_trigger() -> None:
    event: dict[str, Any] = to_openlineage(fragment(), namespace="shop")
    assert event["job"] == {"namespace": "shop", "name": "trigger.sofa-advice", "facets": {}}
    assert [found["name"] for found in event["inputs"]] == ["events.Product Viewed"]
    assert output(event)["name"] == "fragments.crm-cn-1.sofa-advice"
    assert {found["namespace"] for found in (*event["inputs"], *event["outputs"])} == {"shop"}


@pytest.mark.parametrize(
    ("field", "column", "expected"),
    [
        ("comparing", "material", ("DIRECT", "AGGREGATION", False)),
        ("comparing", "event_id", ("INDIRECT", "WINDOW", False)),
        ("budget", "price", ("DIRECT", "AGGREGATION", True)),
        ("budget", "category", ("INDIRECT", "FILTER", False)),
    ],
)
def test_masking_and_kind_stand_with_each_column(
    field: str, column: str, expected: tuple[str, str, bool]
) -> None:
    event: dict[str, Any] = to_openlineage(fragment())
    inputs = output(event)["facets"]["columnLineage"]["fields"][field]["inputFields"]
    ((found,),) = [entry["transformations"] for entry in inputs if entry["field"] == column]
    assert (found["type"], found["subtype"], found["masking"]) == expected


def test_the_description_names_rule_and_masks() -> None:
    event: dict[str, Any] = to_openlineage(fragment())
    price = output(event)["facets"]["lineage"]["fields"]["budget"]["inputs"][0]
    assert price["transformations"][0]["description"] == (
        "measure sofa-advice.budget version 2; masked: decimals: 0, band at 1000, 5000"
    )


def test_only_fields_that_the_fragment_carries_are_told() -> None:
    event: dict[str, Any] = to_openlineage(fragment(["materials"]))
    facets = output(event)["facets"]
    assert set(facets["columnLineage"]["fields"]) == set(facets["lineage"]["fields"]) == {"materials"}
    assert [field["name"] for field in facets["schema"]["fields"]] == ["materials"]


def test_no_value_leaves() -> None:
    assert "SECRET" not in json.dumps(to_openlineage(fragment()))
