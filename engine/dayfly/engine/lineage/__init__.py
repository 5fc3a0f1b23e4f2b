"""Why does the CRM see this? Lineage blocks, their store, explanations, and exports as OpenLineage and W3C PROV."""

from .block import ConsentUse, FieldLineage, LineageBlock, SourceEvent, decode, encode
from .build import FieldEvidence, make_block
from .derive import shapes_of
from .shape import LineageShape, RuleText, ShapeField, SourceColumn, shape_from_bytes

__all__ = [
    "ConsentUse",
    "FieldEvidence",
    "FieldLineage",
    "LineageBlock",
    "LineageShape",
    "RuleText",
    "ShapeField",
    "SourceColumn",
    "SourceEvent",
    "decode",
    "encode",
    "make_block",
    "shape_from_bytes",
    "shapes_of",
]
