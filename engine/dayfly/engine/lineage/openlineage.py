"""Export as OpenLineage (specification 2-0-2): the fragment as a run that read event data sets and wrote one data set.

OpenLineage speaks of data sets and columns, so this is the static half: which columns feed which field, how, and masked or not. The
events of one value are in the PROV export. Facets: schema 1-2-0, columnLineage 1-2-0, and the explicit lineage facet 1-0-0
that supersedes it; consumers of either age find what they know.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from .explain import FragmentLineage
from .shape import LineageShape, ShapeField, SourceColumn
from .times import utc_text

__all__ = ["to_openlineage"]

PRODUCER: Final = "urn:dayfly:engine:lineage"
_SPEC: Final = "https://openlineage.io/spec"
_EVENT_COLUMN: Final = "event_id"
"""Column that stands for the event itself where a rule counts events and reads no property."""

_TRANSFORMATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "value": ("DIRECT", "AGGREGATION"),
    "window": ("INDIRECT", "WINDOW"),
    "filter": ("INDIRECT", "FILTER"),
}


def to_openlineage(fragment: FragmentLineage, *, namespace: str = "dayfly") -> dict[str, object]:
    """OpenLineage `RunEvent` of a fragment, ready for JSON.

    Args:
        fragment: From `LineageStore.fragment`.
        namespace: OpenLineage namespace of job and data sets.
    """
    shape = fragment.shape
    carried = tuple(shape.fields[entry.field] for entry in fragment.block.fields)
    sources = dict.fromkeys(column.event for spec in carried for column in spec.columns)
    return {
        "eventType": "COMPLETE",
        "eventTime": utc_text(fragment.issued_at_ms),
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": _run_id(fragment.jti), "facets": {}},
        "job": {"namespace": namespace, "name": f"trigger.{shape.trigger.id}", "facets": {}},
        "inputs": [{"namespace": namespace, "name": f"events.{event}", "facets": {}} for event in sources],
        "outputs": [
            {
                "namespace": namespace,
                "name": f"fragments.{fragment.audience}.{shape.trigger.id}",
                "facets": _facets(carried, shape, namespace),
            }
        ],
    }


def _run_id(jti: str) -> str:
    """A UUID that is a function of the fragment's id (RFC 9562 version 8), so that a repeated export is the same run."""
    raw = bytearray(hashlib.blake2b(jti.encode(), digest_size=16, person=b"dayfly-run-id").digest())
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(raw)))


def _facets(carried: Iterable[ShapeField], shape: LineageShape, namespace: str) -> dict[str, object]:
    fields = tuple(carried)
    return {
        "schema": {
            **_facet("SchemaDatasetFacet", "1-2-0"),
            "fields": [{"name": spec.name, "description": spec.data_category} for spec in fields],
        },
        "columnLineage": {
            **_facet("ColumnLineageDatasetFacet", "1-2-0"),
            "fields": {
                spec.name: {
                    "inputFields": [_input(column, spec, shape, namespace) for column in spec.columns]
                }
                for spec in fields
            },
        },
        "lineage": {
            **_facet("LineageDatasetFacet", "1-0-0", document="LineageFacet"),
            "fields": {
                spec.name: {
                    "inputs": [
                        {**_input(column, spec, shape, namespace), "type": "DATASET"}
                        for column in spec.columns
                    ]
                }
                for spec in fields
            },
        },
    }


def _facet(name: str, version: str, *, document: str = "") -> dict[str, object]:
    url = f"{_SPEC}/facets/{version}/{document or name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": url}


def _input(column: SourceColumn, spec: ShapeField, shape: LineageShape, namespace: str) -> dict[str, object]:
    kind, subtype = _TRANSFORMATIONS[column.use]
    # Masking of the fragment covers the value; what a rule only counted or filtered by is masked at intake or not at all.
    masking = [
        text for text in (column.masking, spec.masking if column.use == "value" else "keep") if text != "keep"
    ]
    rules = "; ".join(
        f"{rule.kind} {rule.id} version {rule.version}" for rule in (shape.rules[at] for at in spec.rules)
    )
    description = f"{rules or shape.trigger.id}{'; masked: ' if masking else ''}{', '.join(masking)}"
    return {
        "namespace": namespace,
        "name": f"events.{column.event}",
        "field": column.field or _EVENT_COLUMN,
        "transformations": [
            {"type": kind, "subtype": subtype, "description": description, "masking": bool(masking)}
        ],
    }
