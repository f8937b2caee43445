"""What every resource has: apiVersion, kind, metadata, conditions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic.alias_generators import to_camel

from .cel import CelRule, rules
from .types import Name, ObjectName

GROUP = "storage.marketprism.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]


class Model(BaseModel):
    """camelCase in YAML, snake_case in Python.

    Like the API server it takes null for "not given"; unlike it, it refuses unknown keys.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class StatusModel(Model):
    """What the operator reports. Keys that another version of it wrote are passed over."""

    model_config = ConfigDict(extra="ignore")


class SecretRef(Model):
    """A Secret in the resource's own namespace."""

    name: ObjectName
    """The Secret's name."""


class Metadata(Model):
    """ObjectMeta of Kubernetes: what we read of it is typed."""

    name: Name
    """At most 63 characters: other objects are named after it."""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    generation: Int = 0
    resource_version: str = ""
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[dict[str, Any], ...] = ()
    creation_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    generate_name: Any = None
    managed_fields: Any = None
    self_link: Any = None


class Condition(StatusModel):
    """metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """What the condition is about, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024)]
    """The cause in one CamelCase word of a closed set."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """The cause and what to do, for people."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last flipped, RFC 3339."""
    observed_generation: Annotated[Int, Field(ge=0, json_schema_extra={"format": "int64"})] = 0
    """The generation of the spec that this was found for."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=32,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class ResourceStatus(StatusModel):
    """Common to both kinds."""

    observed_generation: Annotated[Int, Field(ge=-1, json_schema_extra={"format": "int64"})] = -1
    """The generation of the spec that this status is about; -1 of a new resource, which nobody has looked at."""
    conditions: Conditions = ()
    """Every condition is positive: True is good. Ready sums them up."""


class Resource(Model):
    """A resource of ours. `COLUMNS`: name, type, JSONPath, priority (1: only with `-o wide`), description."""

    KIND: ClassVar[str]
    PLURAL: ClassVar[str]
    SHORT_NAME: ClassVar[str]
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int, str], ...]]

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule(
                f"size(self.metadata.name) <= {Name.MAX_LENGTH} && !self.metadata.name.contains('.')",
                f"metadata.name must be at most {Name.MAX_LENGTH} characters, without a dot: others are named after it",
            )
        )
    )

    api_version: Literal["storage.marketprism.io/v1alpha1"] = "storage.marketprism.io/v1alpha1"
    """The version of this API."""
    metadata: Metadata
    """Name, namespace, labels and annotations."""

    def manifest(self) -> dict[str, Any]:
        """What was given, as plain data for YAML or JSON; no defaults are added."""
        given = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {"apiVersion": API_VERSION, "kind": self.KIND, **{k: v for k, v in given.items() if v is not None}}
