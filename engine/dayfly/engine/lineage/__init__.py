"""Why does the CRM see this? Lineage blocks, their store, explanations, and exports as OpenLineage and W3C PROV."""

from .block import ConsentUse, FieldLineage, LineageBlock, SourceEvent, decode, encode
from .build import FieldEvidence, make_block
from .derive import shapes_of
from .explain import ExplainedEvent, Explanation, FragmentLineage, explain_field
from .openlineage import to_openlineage
from .prov import to_prov
from .records import FileRecords, MemoryRecords, Records
from .render import sentence, to_json, to_table
from .shape import LineageShape, RuleText, ShapeField, SourceColumn, shape_from_bytes
from .store import LineageStore
from .vault import LineageVault, VaultSettings

__all__ = [
    "ConsentUse",
    "ExplainedEvent",
    "Explanation",
    "FieldEvidence",
    "FieldLineage",
    "FileRecords",
    "FragmentLineage",
    "LineageBlock",
    "LineageShape",
    "LineageStore",
    "LineageVault",
    "MemoryRecords",
    "Records",
    "RuleText",
    "ShapeField",
    "SourceColumn",
    "SourceEvent",
    "VaultSettings",
    "decode",
    "encode",
    "explain_field",
    "make_block",
    "sentence",
    "shape_from_bytes",
    "shapes_of",
    "to_json",
    "to_openlineage",
    "to_prov",
    "to_table",
]
