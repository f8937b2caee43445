"""What a pipeline says of its data types: where other collectors put a built-in one's fields, and types of the user's own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .cel import CelRule, rules
from .data_types import BUILT_IN, BatchLimits, Declaration, DeclaredField
from .data_types.declaration import Kind, Levels, Unit, kind_of
from .meta import Int, Model
from .problems import Objection, ValueRefusedError, did_you_mean
from .subjects import common
from .types import (
    Amount,
    Between,
    ColumnName,
    ColumnType,
    DataTypeName,
    Duration,
    MessagePlace,
    Quantity,
    SubjectPattern,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MOST_TYPES = 24
MOST_FIELDS = 64
RESERVED = frozenset(("created_at", "timestamp"))
COMMON = ("exchange", "market_type", "symbol", "data_source", "collected_at")
"""Fields that every data type has."""
USUAL_BATCH = BatchLimits(max_rows=100, max_delay=10, max_pending=1000)
"""Of a type of the user's own."""

Count = Annotated[Int, Field(ge=1, le=1_000_000, json_schema_extra={"format": "int32"})]
ShortText = Annotated[str, Field(max_length=256)]


class BatchSpec(Model):
    """When rows are written. What isn't given takes the data type's own default."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule(
                "!has(self.maxRows) || !has(self.maxPending) || self.maxPending >= self.maxRows",
                "maxPending must be at least maxRows: raise maxPending, or leave it out",
            )
        )
    )

    max_rows: Count | None = None
    """A batch of this many rows is due."""
    max_delay: Annotated[Duration, Between("10ms", "10m")] | None = None
    """A batch is due this long after its first row."""
    max_pending: Count | None = None
    """Messages read and not stored. Not given: the default, or maxRows if that is more."""
    max_bytes: Annotated[Quantity, Amount("64Ki", "256Mi")] | None = None
    """A batch of this many bytes of payload is due. Default 8Mi, of order books 16Mi."""


ATOMIC = {"x-kubernetes-list-type": "atomic"}
Places = Annotated[tuple[MessagePlace, ...], Field(min_length=1, max_length=8, json_schema_extra=ATOMIC)]


class TimestampSpec(Model):
    """Where the time of an event stands, by which its row is sorted and kept."""

    from_: Annotated[Places, Field(alias="from")]
    """The first of these that is there: names, or paths such as `data.T`."""
    unit: Unit = ""
    """Of a number: s, ms, us or ns. Not given: told by its size."""


class FieldSpec(Model):
    """A column, and where its value stands in a message."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule(
                "[has(self.from), has(self.value), has(self.subjectToken)].filter(given, given).size() <= 1",
                "give one of from, value and subjectToken",
            ),
        )
    )

    type: ColumnType | None = None
    """The column's, as ClickHouse writes it: Decimal(38, 18), UInt64, Int32, Float64 (inexact), String, LowCardinality(String), Bool,
    UUID, DateTime64(3), 6 or 9. Array(…) of one of them; Nullable(…) for what a message may leave out. Of a type of the user's own
    only."""
    from_: Annotated[
        tuple[MessagePlace, ...] | None, Field(alias="from", min_length=1, max_length=8, json_schema_extra=ATOMIC)
    ] = None
    """The first of these that is there, and not null, is taken: a name, or a path of names such as `data.p`, in which a number is a
    place in a list, and `*` its only one. Not given: the field's own name."""
    value: ShortText | None = None
    """A constant, for what no message has."""
    subject_token: Annotated[Int, Field(ge=1, le=32, json_schema_extra={"format": "int32"})] | None = None
    """Taken from the message's subject: the token with this number, from 1."""
    values: Annotated[dict[str, ShortText], Field(max_length=64)] = Field(default_factory=dict)
    """What is stored in place of a word of the message: `{b: buy}`. Others stay as they are."""
    one_of: Annotated[tuple[ShortText, ...], Field(max_length=64, json_schema_extra=ATOMIC)] = ()
    """Of a text: what it may be, in any case. A message with another word is a dead letter."""
    check: Literal["", "positive", "notNegative"] = ""
    """Of a number: one that fails makes its message a dead letter."""
    unit: Unit = ""
    """Of a time that is a number: s, ms, us or ns. Not given: told by its size."""
    max_length: Annotated[Int, Field(ge=1, le=65536, json_schema_extra={"format": "int32"})] | None = None
    """Of a text, in characters. Default 256."""
    level: Annotated[tuple[ShortText, ...], Field(min_length=2, max_length=2, json_schema_extra=ATOMIC)] | None = None
    """Of an order book's bids and asks: where price and quantity stand in a level: two names, or two numbers from 0;
    `[key, value]` where a side is an object, `{price: quantity}`. Not given: `price` and `quantity`, or a pair of the two."""
    description: ShortText = ""
    """For people."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [
            name
            for name, value in (("from", self.from_), ("value", self.value), ("subjectToken", self.subject_token))
            if value is not None
        ]
        if len(given) > 1:
            raise ValueRefusedError(Objection(f"{' and '.join(given)} are given", "one of them", path=given[-1]))
        return self

    def problems(self, name: str, kind: Kind) -> Iterator[Objection]:
        """What doesn't go with a field of that kind."""
        path = f"fields.{name}"
        one = kind.of or kind
        if self.check and one.name != "Decimal":
            yield Objection("goes with a Decimal only", "a Decimal, or no check", path=f"{path}.check")
        if self.unit and one.name != "DateTime64":
            yield Objection("goes with a time only", hint="remove unit", path=f"{path}.unit")
        if self.one_of and one.name != "String":
            yield Objection("goes with a text only", hint="remove oneOf", path=f"{path}.oneOf")
        if self.max_length and one.name != "String":
            yield Objection("goes with a text only", hint="remove maxLength", path=f"{path}.maxLength")
        if self.level and name not in ("bids", "asks"):
            yield Objection("goes with bids and asks only", hint="remove level", path=f"{path}.level")

    def over(self, field: DeclaredField) -> DeclaredField:
        """The field with what is said here."""
        boolean = kind_of(field.type).name == "Bool"

        def as_json(text: str) -> str:
            return text if boolean else json.dumps(text)

        return replace(
            field,
            places=field.places if self.from_ is None else tuple(map(str, self.from_)),
            constant=None if self.value is None else as_json(self.value),
            token=self.subject_token or 0,
            mapped=tuple((word, as_json(said)) for word, said in self.values.items()),
            words=tuple((word.lower(), word) for word in self.one_of) or field.words,
            check=self.check or field.check,
            unit=self.unit or field.unit,
            length=self.max_length or field.length,
            description=self.description or field.description,
        )


class DataTypeSpec(Model):
    """A data type that is stored: a built-in one, and where its fields stand; or one of the user's own."""

    subject: SubjectPattern | None = None
    """The subjects that carry it. Not given: those whose first token is its name, such as `trade.>`."""
    table: ColumnName | None = None
    """Of a type of the user's own: its table in both databases. Not given: its name."""
    timestamp: TimestampSpec | None = None
    """Where the time of an event stands. Not given: in `timestamp` or `ts_ms`."""
    fields: Annotated[dict[ColumnName, FieldSpec], Field(max_length=MOST_FIELDS)] = Field(default_factory=dict)
    """By column. Every type has exchange, market_type, symbol, data_source and collected_at, which need no type here."""
    order_by: Annotated[tuple[ColumnName, ...], Field(max_length=8, json_schema_extra=ATOMIC)] = ()
    """Of a type of the user's own: what its tables are sorted by. Not given: exchange, market_type, symbol, timestamp."""
    partition: Literal["hour", "day"] | None = None
    """Of a type of the user's own: of the hot table. A day for what comes rarely. Not given: hour."""
    batch: BatchSpec = BatchSpec()
    """When its rows are written."""

    @property
    def _mapped(self) -> bool:
        return bool(self.fields or self.timestamp)

    def declaration(self, name: str) -> Declaration:
        """Raises ValueRefusedError; paths are within this type."""
        built_in = BUILT_IN.get(name)
        declared = self._of_built_in(built_in) if built_in else self._of_the_users_own(name)
        if self.timestamp:
            places = tuple(map(str, self.timestamp.from_))
            declared = replace(declared, time=replace(declared.time, places=places, unit=self.timestamp.unit))
        if self.subject:
            declared = replace(declared, subject=str(self.subject))
        return declared

    def _of_built_in(self, built_in: Declaration) -> Declaration:
        objections: list[Objection] = []
        for path, given in (("table", self.table), ("orderBy", self.order_by), ("partition", self.partition)):
            if given:
                objections.append(Objection("can't be given for a built-in type", hint="leave it out", path=path))
        for name, spec in self.fields.items():
            if name not in built_in.names or name == "timestamp":
                hint = (
                    "declare a type of your own for other columns" if name != "timestamp" else "write it in timestamp"
                )
                allowed = ", ".join(each for each in built_in.names if each != "timestamp")
                objections.append(Objection(f"{built_in.name} has no such field", allowed, hint, f"fields.{name}"))
                continue
            if spec.type:
                message = "can't be given for a field of a built-in type"
                objections.append(Objection(message, hint="leave it out", path=f"fields.{name}.type"))
            objections += spec.problems(name, kind_of(built_in.field(name).type))
        if objections:
            raise ValueRefusedError(*objections)
        if not self._mapped:
            return built_in

        def over(each: DeclaredField | Levels) -> DeclaredField | Levels:
            if isinstance(each, Levels):
                bids, asks = (self.fields.get(side, FieldSpec()) for side in (ColumnName("bids"), ColumnName("asks")))
                level = bids.level or asks.level
                return Levels(bids.over(each.bids), asks.over(each.asks), (level[0], level[1]) if level else None)
            return self._over(each)

        return replace(
            built_in,
            claimed="",
            place=tuple(map(self._over, built_in.place)),
            fields=tuple(map(over, built_in.fields)),
            tail=tuple(map(self._over, built_in.tail)),
        )

    def _over(self, field: DeclaredField) -> DeclaredField:
        said = self.fields.get(ColumnName(field.name))
        return said.over(field) if said else field

    def _of_the_users_own(self, name: str) -> Declaration:
        usual = Declaration(name=name, table=str(self.table or name), description="", fields=(), batch=USUAL_BATCH)
        own: list[DeclaredField] = []
        objections: list[Objection] = []
        for column, spec in self.fields.items():
            path = f"fields.{column}"
            if column in RESERVED:
                hint = "write it in timestamp" if column == "timestamp" else "choose another name"
                objections.append(Objection(f"{column} is set by us", hint=hint, path=path))
            elif column in COMMON:
                if spec.type:
                    objections.append(Objection("every data type has it", hint="leave type out", path=f"{path}.type"))
                objections += spec.problems(column, kind_of(usual.field(column).type))
            elif not spec.type:
                objections.append(Objection("is required", ColumnType.ALLOWED, path=f"{path}.type"))
            else:
                made = DeclaredField(str(column), spec.type.normal, may_be_empty=True)
                objections += spec.problems(column, kind_of(made.type))
                own.append(spec.over(made))
        if not own and not objections:
            objections.append(
                Objection(
                    f"is required: {name} is not built in",
                    "fields of its own, such as {price: {type: Decimal(38, 18)}}",
                    did_you_mean(name, tuple(BUILT_IN)),
                    "fields",
                )
            )
        objections += self._wrong_order(own)
        if objections:
            raise ValueRefusedError(*objections)
        return replace(
            usual,
            claimed="",
            fields=tuple(own),
            place=tuple(map(self._over, usual.place)),
            tail=tuple(map(self._over, usual.tail)),
            order_by=tuple(map(str, self.order_by)) or usual.order_by,
            partition=self.partition or "hour",
        )

    def _wrong_order(self, own: Iterable[DeclaredField]) -> Iterator[Objection]:
        sortable = ["exchange", "market_type", "symbol", "timestamp"]
        sortable += [field.name for field in own if not (kind := kind_of(field.type)).nullable and kind.of is None]
        for column in self.order_by:
            if column not in sortable:
                message = f"{column} is no column that a table can be sorted by"
                yield Objection(message, ", ".join(sortable), path="orderBy")
        if len(set(self.order_by)) < len(self.order_by):
            yield Objection("names a column twice", path="orderBy")


def declarations(given: Mapping[DataTypeName, DataTypeSpec] | None) -> dict[str, Declaration]:
    """By name: the built-in ones in their order, then the user's own. Raises ValueRefusedError; paths begin with `dataTypes`."""
    if given is None:
        return dict(BUILT_IN)
    specs = {str(name): spec for name, spec in given.items()}
    made: dict[str, Declaration] = {}
    objections: list[Objection] = []
    for name in (*(name for name in BUILT_IN if name in specs), *(name for name in specs if name not in BUILT_IN)):
        try:
            made[name] = specs[name].declaration(name)
        except ValueRefusedError as refused:
            objections += [replace(each, path=f"dataTypes.{name}.{each.path}") for each in refused.objections]
    objections += _in_each_others_way(made)
    if objections:
        raise ValueRefusedError(*objections)
    return made


def _in_each_others_way(made: Mapping[str, Declaration]) -> Iterator[Objection]:
    tables = {declaration.table: name for name, declaration in BUILT_IN.items()}
    tables["incidents"] = "what was healed"
    seen: list[Declaration] = []
    for name, declaration in made.items():
        owner = tables.setdefault(declaration.table, name)
        if owner != name:
            message = f"{declaration.table} is the table of {owner}"
            yield Objection(message, "a table of its own", path=f"dataTypes.{name}.table")
        for other in seen:
            if both := common(declaration.subject, other.subject):
                message = f"{declaration.subject} and {other.subject} of {other.name} have {both} in common"
                yield Objection(
                    message, "subjects of its own", "a message is of one data type", f"dataTypes.{name}.subject"
                )
        seen.append(declaration)
