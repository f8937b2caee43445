"""What a machine reads: keys in camelCase, as in the resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from pydantic.alias_generators import to_camel


def camel(value: Any) -> Any:
    """Fields of dataclasses and named tuples get camelCase names; the keys of a mapping are data, and stay as they are."""
    if is_dataclass(value) and not isinstance(value, type):
        return {to_camel(field.name): camel(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: camel(each) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {to_camel(name): camel(each) for name, each in zip(value._fields, value, strict=True)}
    if isinstance(value, list | tuple | set | frozenset):
        return [camel(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value
