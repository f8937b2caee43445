"""Rules in CEL that a model carries into its CRD, so that the API server refuses what we would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

KEY = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class CelRule:
    """Annotates a field. `message` says what to do."""

    rule: str
    message: str

    def manifest(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        return {"rule": self.rule, "message": self.message}

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = dict(handler(core))
        return {**schema, KEY: [*schema.get(KEY, []), self.manifest()]}


def rules(*given: CelRule) -> dict[str, Any]:
    """The rules of a whole model: `model_config = ConfigDict(json_schema_extra=rules(…))`."""
    return {KEY: [rule.manifest() for rule in given]}


def unchangeable(what: str, instead: str) -> CelRule:
    """A scalar that stays as it was created."""
    return CelRule("self == oldSelf", f"{what} can't be changed: {instead}")


def one_of(words: Iterable[str]) -> str:
    """A CEL list of texts."""
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"
