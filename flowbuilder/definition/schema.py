"""The JSON Schema of workflow files, from the field tables; editors complete and check by it."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from flowbuilder.definition.fields import CACHE, DEFAULTS, RESOURCES, RETRY, TASK, WORKFLOW
from flowbuilder.definition.shapes import Json

__all__ = ["SCHEMA_ID", "workflow_schema"]

SCHEMA_ID = "https://flowbuilder.dev/schemas/workflow.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEMPLATE: Json = {"type": "string", "pattern": r"\$\{\{"}
_LISTS = ("anyOf", "allOf", "prefixItems")
_MAPPINGS = ("properties", "patternProperties")
_SINGLES = ("items", "additionalProperties", "contains", "unevaluatedProperties")
_NARROWING = {"enum", "const", "pattern", "format", "minLength", "maxLength"}


def workflow_schema(task_types: Mapping[str, Mapping[str, object]] | None = None) -> Json:
    """Describe the file format as JSON Schema 2020-12.

    Parameters
    ----------
    task_types : mapping, optional
        Name of a task type -> JSON Schema of its ``config``.

    Returns
    -------
    dict
        A schema that refers to nothing outside itself. In ``config`` a text with ``${{ }}`` may
        stand wherever another type is expected.
    """
    types = dict(sorted((task_types or {}).items()))
    workflow = WORKFLOW.schema(
        {
            "defaults": _reference("defaults"),
            "tasks": {"type": "array", "minItems": 1, "items": _reference("task")},
        }
    )
    records: dict[str, Json] = {
        "retry": _reference("retry"),
        "resources": _reference("resources"),
        "cache": {"anyOf": [{"type": "boolean"}, _reference("cache")]},
    }
    return {
        "$schema": _DIALECT,
        "$id": SCHEMA_ID,
        "title": "FlowBuilder workflow",
        **workflow,
        "$defs": {
            "task": _task(types, records),
            "defaults": DEFAULTS.schema(records),
            "retry": RETRY.schema(),
            "resources": RESOURCES.schema(),
            "cache": CACHE.schema(),
        },
    }


def _task(types: Mapping[str, Mapping[str, object]], records: Mapping[str, Json]) -> Json:
    overrides = dict(records)
    if types:
        # Types of a project are unknown here, so the known ones are only proposed.
        overrides["type"] = {"anyOf": [{"enum": list(types)}, {"type": "string", "minLength": 1}]}
    schema = TASK.schema(overrides)
    if types:
        schema["allOf"] = [_when(name, config) for name, config in types.items()]
    return schema


def _when(name: str, config: Mapping[str, object]) -> Json:
    own = _templated(copy.deepcopy(dict(config)))
    if _has_reference(own):
        # An identifier of its own makes '#/...' inside mean the type's schema, not ours.
        own.setdefault("$id", f"{SCHEMA_ID}/config/{name}")
    then: Json = {"properties": {"config": own}}
    required = own.get("required")
    if isinstance(required, list) and required:
        then["required"] = ["config"]
    return {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": then}


def _reference(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _templated(schema: Json) -> Json:
    """Let a template stand for every value inside the config, not for the config itself."""
    if "oneOf" in schema:
        # A template fits several branches, which `oneOf` would refuse.
        branches = {"anyOf": schema.pop("oneOf")}
        schema["allOf"] = [*_subschemas(schema.get("allOf")), branches]
    for key in _LISTS:
        if isinstance(schema.get(key), list):
            keep = key != "prefixItems"
            parts = _subschemas(schema[key])
            schema[key] = [_templated(part) if keep else _or_template(part) for part in parts]
    for key in _MAPPINGS:
        inner = schema.get(key)
        if isinstance(inner, dict):
            schema[key] = {name: _or_template(each) for name, each in inner.items()}
    for key in _SINGLES:
        if isinstance(schema.get(key), dict):
            schema[key] = _or_template(schema[key])
    for key in ("$defs", "definitions"):
        inner = schema.get(key)
        if isinstance(inner, dict):
            schema[key] = {name: _templated(each) for name, each in inner.items()}
    return schema


def _or_template(schema: object) -> object:
    if not isinstance(schema, dict) or not schema:
        return schema
    inner = _templated(schema)
    kinds = inner.get("type")
    accepts_text = kinds == "string" or (isinstance(kinds, list) and "string" in kinds)
    if accepts_text and not _NARROWING & inner.keys():
        return inner
    # Texts for people stay outside, where editors look for them.
    outer: Json = {
        key: inner.pop(key) for key in ("title", "description", "default") if key in inner
    }
    outer["anyOf"] = [inner, dict(_TEMPLATE)]
    return outer


def _subschemas(value: object) -> list[Json]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _has_reference(schema: object) -> bool:
    if isinstance(schema, dict):
        return "$ref" in schema or any(_has_reference(each) for each in schema.values())
    return isinstance(schema, list) and any(_has_reference(each) for each in schema)
