"""Scalars with a grammar. Each is a `str` that can only be made from a text that follows it."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

import durationpy
from cronsim import CronSim, CronSimError
from pydantic_core import core_schema

from . import cel
from .data_types.declaration import kind_of
from .problems import Objection, ValueRefusedError, did_you_mean

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class Text(str):
    """A text with a grammar. Raises ValueRefusedError where `PATTERN`, `MAX_LENGTH` or `check` says no."""

    PATTERN: ClassVar[str]
    """For Python, for OpenAPI and for CEL's RE2 alike: keep to what all three know."""
    MAX_LENGTH: ClassVar[int]
    ALLOWED: ClassVar[str]
    """The grammar in words, with an example."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if len(text) > cls.MAX_LENGTH:
            raise ValueRefusedError(Objection("is too long", f"at most {cls.MAX_LENGTH} characters"))
        if not re.fullmatch(cls.PATTERN.removeprefix("^").removesuffix("$"), text, re.ASCII):
            raise ValueRefusedError(Objection("is not " + cls.noun(), cls.ALLOWED, cls.hint(text)))
        made = super().__new__(cls, text)
        made.check()
        return made

    @classmethod
    def noun(cls) -> str:
        """What the text should have been."""
        return "allowed here"

    @classmethod
    def hint(cls, text: str) -> str:
        """What to write instead of `text`, which doesn't match. Must not repeat a secret."""
        return ""

    def check(self) -> None:
        """What no pattern can say. Raises ValueRefusedError."""

    @classmethod
    def _validate(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        raise ValueRefusedError(cls.not_text(value))

    @classmethod
    def not_text(cls, value: object) -> Objection:
        """What to say of a number, a boolean or an object where a text belongs."""
        return Objection(
            "must be a text", cls.ALLOWED, "put it in quotes" if isinstance(value, bool | int | float) else ""
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": cls.PATTERN, "maxLength": cls.MAX_LENGTH}


class MarketType(Text):
    """A market type as messages name it."""

    PATTERN = r"^[A-Za-z0-9_.-]+$"
    MAX_LENGTH = 64
    ALLOWED = "a market type as messages name it, such as spot or perpetual"
    __slots__ = ()


class DataTypeName(Text):
    """A data type's name: a built-in one, or one of the pipeline's own."""

    PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
    MAX_LENGTH = 40
    ALLOWED = "lower case letters, digits and _, at most 40, such as trade or best_bid_ask"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a data type's name"

    def check(self) -> None:
        if self in ("default", "rest"):
            raise ValueRefusedError(Objection("is taken for something else", self.ALLOWED))


_WORDS = (
    "all and any array as asc between by case cross desc distinct else false final from full global group "
    "having in inf inner is join left like limit nan not null on or order outer right select then true "
    "union using when where with"
)
SQL_WORDS = frozenset(_WORDS.split())


class ColumnName(Text):
    """A column or a table of a data type."""

    PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
    MAX_LENGTH = 63
    ALLOWED = "lower case letters, digits and _, at most 63, such as open_price"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a name"

    def check(self) -> None:
        if self in SQL_WORDS:
            hint = f"choose another, and say from: [{self}]"
            raise ValueRefusedError(
                Objection("is a word of SQL, which queries could not use as a name", self.ALLOWED, hint)
            )


_SCALAR = r"(U?Int(8|16|32|64|128|256)|Float64|String|Bool|UUID|Decimal\([0-9]{1,2}, ?[0-9]{1,2}\)|DateTime64\([369](, ?'UTC')?\))"


class ColumnType(Text):
    """A column's type, as ClickHouse writes it."""

    PATTERN = (
        rf"^({_SCALAR}|(Array|Nullable)\({_SCALAR}\)|LowCardinality\(String\)|LowCardinality\(Nullable\(String\)\))$"
    )
    MAX_LENGTH = 64
    ALLOWED = (
        "Decimal(38, 18), Int8 to Int256, UInt8 to UInt256, Float64, String, LowCardinality(String), Bool, UUID, DateTime64(3), 6 or 9;"
        " Nullable(…) or Array(…) of one"
    )
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a type that a column may have"

    @classmethod
    def hint(cls, text: str) -> str:
        if text == "Nullable(LowCardinality(String))":
            return "write LowCardinality(Nullable(String))"
        if text.startswith("Enum"):
            return "write LowCardinality(String), and its words in oneOf"
        if text in ("DateTime", "Date", "DateTime64"):
            return "write DateTime64(3)"
        if text in ("Float32", "Decimal", "Int", "UInt"):
            return {"Float32": "write Float64", "Decimal": "write Decimal(38, 18)"}.get(text, f"write {text}64")
        return ""

    def check(self) -> None:
        try:
            kind_of(self.normal)
        except ValueError as error:
            raise ValueRefusedError(Objection(f"is not possible: {error}", self.ALLOWED)) from None

    @property
    def normal(self) -> str:
        """As ClickHouse writes it back: with a time zone, and a blank after a comma."""
        text = re.sub(r", ?", ", ", str(self))
        return re.sub(r"DateTime64\(([369])\)", r"DateTime64(\1, 'UTC')", text)


class MessagePlace(Text):
    """Where in a message a value stands."""

    PATTERN = r"^[^\s]{1,128}$"
    MAX_LENGTH = 128
    ALLOWED = "a name in the message, or a path such as data.p, at most 128 characters"
    __slots__ = ()


class SubjectPattern(Text):
    """A pattern of NATS subjects."""

    PATTERN = r"^([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*(\.>)?$"
    MAX_LENGTH = 200
    ALLOWED = "a pattern of subjects, such as kline.> or md.*.trades"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a pattern of subjects"


class Duration(Text):
    """A length of time as Go writes it, without sign: `10s`, `1h30m`, `500ms`."""

    PATTERN = r"^([0-9]+(\.[0-9]+)?(h|m|s|ms))+$"
    MAX_LENGTH = 20
    ALLOWED = "a duration of h, m, s and ms, such as 10s, 1h30m or 168h"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a duration"

    @classmethod
    def hint(cls, text: str) -> str:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
            return f"add the unit: {text}s"
        if days := re.fullmatch(r"([0-9]{1,5})d", text, re.ASCII):
            return f"days are written in hours: {int(days[1]) * 24}h"
        return "for no limit, write 0s" if not text else ""

    @classmethod
    def not_text(cls, value: object) -> Objection:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return Objection("has no unit" if number else "must be a text", cls.ALLOWED, cls.hint(str(value)))

    def check(self) -> None:
        try:
            self._parsed()  # here, and not at the first use, it shows that a time is out of range
        except durationpy.DurationError:
            raise ValueRefusedError(Objection("is too long a time", self.ALLOWED)) from None

    def _parsed(self) -> timedelta:
        parsed: timedelta = durationpy.from_str(str(self))
        return parsed

    @property
    def timedelta(self) -> timedelta:
        """To the microsecond."""
        return self._parsed()

    @property
    def seconds(self) -> float:
        """The whole of it, in seconds."""
        return self.timedelta.total_seconds()


@dataclass(frozen=True, slots=True)
class Between:
    """Annotates a Duration with its bounds, inclusive. `or_zero`: `0s` too, which stands for "no limit"."""

    least: str
    most: str
    or_zero: bool = False

    @property
    def words(self) -> str:
        """The bounds for people."""
        return f"{self.least} to {self.most}" + (", or 0s" if self.or_zero else "")

    def _check(self, value: Duration) -> Duration:
        zero = self.or_zero and not value.seconds
        if zero or Duration(self.least).seconds <= value.seconds <= Duration(self.most).seconds:
            return value
        raise ValueRefusedError(Objection("is out of range", self.words))

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rule = f"duration(self) >= duration('{self.least}') && duration(self) <= duration('{self.most}')"
        if self.or_zero:
            rule = f"duration(self) == duration('0s') || {rule}"
        return {**handler(core), cel.KEY: [cel.CelRule(rule, f"must be {self.words}").manifest()]}


class Cron(Text):
    """A schedule of five fields, within what both cronsim and Kubernetes understand."""

    PATTERN = r"^[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}$"
    MAX_LENGTH = 100
    ALLOWED = "five fields: minute hour day-of-month month day-of-week, such as */5 * * * *"
    __slots__ = ()

    _MACROS: ClassVar[dict[str, str]] = {
        "@yearly": "0 0 1 1 *",
        "@annually": "0 0 1 1 *",
        "@monthly": "0 0 1 * *",
        "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *",
        "@hourly": "0 * * * *",
    }

    @classmethod
    def noun(cls) -> str:
        return "a cron schedule"

    @classmethod
    def hint(cls, text: str) -> str:
        fields = len(text.split())
        if text in cls._MACROS:
            return f"write {cls._MACROS[text]}"
        if text.startswith("@every"):
            return "use the field `every` instead"
        if fields == 6:
            return "there is no field for seconds; for less than a minute use `every`"
        return f"this has {fields} fields" if fields != 5 else ""

    def check(self) -> None:
        weekday = self.split()[4]
        if re.search(r"L|7", weekday, re.IGNORECASE) and not re.search(r"jul", weekday, re.IGNORECASE):
            raise ValueRefusedError(
                Objection("has a day of week that Kubernetes doesn't know", "0 (Sunday) to 6, or SUN to SAT")
            )
        if re.search(r"(^| )L", self, re.IGNORECASE):
            raise ValueRefusedError(Objection("has L for the last day, which Kubernetes doesn't know", self.ALLOWED))
        try:
            next(CronSim(str(self), datetime(2024, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as error:
            what = str(error).lower() or "no date ever matches"
            raise ValueRefusedError(Objection("is not a cron schedule: " + what, self.ALLOWED)) from None


class Quantity(Text):
    """An amount as Kubernetes writes it: `16Mi`, `500m`, `2`."""

    PATTERN = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][0-9]{1,2})?$"
    MAX_LENGTH = 32
    ALLOWED = "a Kubernetes quantity, such as 16Mi, 500m or 2"
    __slots__ = ()

    _UNITS: ClassVar[dict[str, Decimal]] = {
        **{unit + "i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
        **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
        **{unit: Decimal(1000) ** -power for power, unit in enumerate("mun", 1)},
        "": Decimal(1),
    }

    @classmethod
    def noun(cls) -> str:
        return "a quantity"

    @classmethod
    def hint(cls, text: str) -> str:
        return "write Mi for MiB, M for MB" if text[-1:] in "bB" else ""

    @classmethod
    def _validate(cls, value: object) -> Self:
        return super()._validate(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)

    @property
    def value(self) -> Decimal:
        """Exact."""
        number, exponent, power = str(self).lower().partition("e") if self[-1].isdigit() else (str(self), "", "")
        if exponent:
            return Decimal(number).scaleb(int(power))
        unit = self.lstrip("0123456789.")
        return Decimal(self.removesuffix(unit)) * self._UNITS[unit]

    @property
    def bytes(self) -> int:
        """Whole bytes, rounded up as Kubernetes does."""
        return int(self.value.to_integral_value(ROUND_CEILING))

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"x-kubernetes-int-or-string": True, "pattern": cls.PATTERN, "maxLength": cls.MAX_LENGTH}


@dataclass(frozen=True, slots=True)
class Amount:
    """Annotates a Quantity with its bounds, inclusive."""

    least: str
    most: str

    def _check(self, value: Quantity) -> Quantity:
        if Quantity(self.least).value <= value.value <= Quantity(self.most).value:
            return value
        raise ValueRefusedError(Objection("is out of range", f"{self.least} to {self.most}"))

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        value = "quantity(string(self))"
        rule = f"{value}.compareTo(quantity('{self.least}')) >= 0 && {value}.compareTo(quantity('{self.most}')) <= 0"
        return {**handler(core), cel.KEY: [cel.CelRule(rule, f"must be {self.least} to {self.most}").manifest()]}


class Ratio(Text):
    """A decimal from 0 to 1. A text, because a float in a resource is not the same everywhere."""

    PATTERN = r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$"
    MAX_LENGTH = 11
    ALLOWED = 'a decimal from 0 to 1 in quotes, such as "0.1"'
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a ratio"

    @classmethod
    def _validate(cls, value: object) -> Self:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # format() because str() of a small float has an exponent
        return super()._validate(format(Decimal(str(value)), "f") if number else value)

    @property
    def value(self) -> float:
        """For comparing."""
        return float(self)


class Name(Text):
    """A DNS label: what a Kubernetes object that others are named after is called."""

    PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
    MAX_LENGTH = 63
    ALLOWED = "lower-case letters, digits and -, beginning and ending with a letter or digit, at most 63"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a name"

    @classmethod
    def hint(cls, text: str) -> str:
        better = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
        return f"for example {better}" if better and better != text else ""


class ConsumerName(Name):
    """Names a Deployment together with the pipeline, so it is short."""

    MAX_LENGTH = 30
    ALLOWED = "lower-case letters, digits and -, beginning and ending with a letter or digit, at most 30"
    __slots__ = ()


class ObjectName(Text):
    """The name of a Secret in the same namespace."""

    PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    MAX_LENGTH = 253
    ALLOWED = "the name of an object in the same namespace: lower-case letters, digits, - and ."
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "the name of a Kubernetes object"


class Identifier(Text):
    """A database or cluster of ClickHouse, safe to quote."""

    PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
    MAX_LENGTH = 63
    ALLOWED = "letters, digits and _, not beginning with a digit, at most 63"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a ClickHouse name"


class Database(Identifier):
    """A database of ours."""

    __slots__ = ()

    def check(self) -> None:
        if self.lower() in ("system", "information_schema"):
            raise ValueRefusedError(Objection("belongs to ClickHouse itself", "a database of your own"))

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rule = cel.CelRule(
            "!(self.lowerAscii() in ['system', 'information_schema'])",
            "a database of your own, not one of ClickHouse's",
        )
        return {**super().__get_pydantic_json_schema__(core, handler), cel.KEY: [rule.manifest()]}


class ClusterName(Text):
    """A cluster's name, or nothing for a single server."""

    PATTERN = r"^([A-Za-z_][A-Za-z0-9_-]{0,62})?$"
    MAX_LENGTH = 63
    ALLOWED = 'letters, digits, _ and -, not beginning with a digit, at most 63; "" for a single server'
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a cluster name"


class StreamName(Text):
    """A JetStream stream."""

    PATTERN = r"^[A-Za-z0-9_-]+$"
    MAX_LENGTH = 64
    ALLOWED = "letters, digits, _ and -, at most 64"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a stream name"


class StreamNames(Text):
    """One JetStream stream or several."""

    PATTERN = r"^[A-Za-z0-9_-]{1,64}(,[A-Za-z0-9_-]{1,64}){0,7}$"
    MAX_LENGTH = 519
    ALLOWED = "letters, digits, _ and -, at most 64; several separated by commas, at most 8"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a stream name"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(self).split(",")))


class SubjectPrefix(Text):
    """What NATS subjects begin with."""

    PATTERN = r"^[A-Za-z0-9_$-]+(\.[A-Za-z0-9_$-]+)*$"
    MAX_LENGTH = 200
    ALLOWED = "tokens of letters, digits, $, _ and -, with dots between them"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a prefix of subjects"


class BucketName(Text):
    """A NATS key-value bucket; its stream is `KV_` and this."""

    PATTERN = r"^[A-Za-z0-9_-]+$"
    MAX_LENGTH = 60
    ALLOWED = "letters, digits, _ and -, at most 60"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a bucket name"


class TimeZone(Text):
    """An IANA time zone."""

    PATTERN = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"
    MAX_LENGTH = 64
    ALLOWED = "a time zone such as Etc/UTC or Asia/Shanghai"
    __slots__ = ()

    @classmethod
    def noun(cls) -> str:
        return "a time zone"


@dataclass(frozen=True, slots=True)
class EndpointUrl:
    """One server, its credentials apart from its URL."""

    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


NATS_SCHEMES = ("nats", "tls", "ws", "wss")
CLICKHOUSE_SCHEMES = ("http", "https")


def endpoints(text: str, schemes: tuple[str, ...], default_port: int) -> tuple[EndpointUrl, ...]:
    """The servers in a comma-separated list of URLs. Raises ValueRefusedError, whose words never repeat a credential."""
    allowed = f"{schemes[0]}://host:{default_port}, several separated by commas; schemes {', '.join(schemes)}"
    found = []
    for part in (part.strip() for part in text.split(",")):
        try:
            url = urlsplit(part)
            host, port = url.hostname or "", url.port
        except ValueError:
            raise ValueRefusedError(Objection("is not a URL", allowed)) from None
        if "://" not in part:
            plain = "@" not in part and re.fullmatch(r"[A-Za-z0-9.:-]+", part)
            raise ValueRefusedError(
                Objection("has no scheme", allowed, f"write {schemes[0]}://{part}" if plain else "")
            )
        if url.scheme not in schemes:
            raise ValueRefusedError(
                Objection("has a scheme that is not allowed", allowed, did_you_mean(url.scheme, schemes))
            )
        if not re.fullmatch(r"[A-Za-z0-9._:%-]+", host) or (port is not None and not 0 < port < 65536):
            raise ValueRefusedError(Objection("has no host, or one that isn't allowed", allowed))
        if url.query or url.fragment or "?" in part or "#" in part:
            raise ValueRefusedError(
                Objection("has a query or fragment", allowed, "credentials belong in a Secret, see authSecretRef")
            )
        if _reaches_metadata(host):
            raise ValueRefusedError(
                Objection("is a link-local address, where clouds keep their instances' secrets", allowed)
            )
        bare = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}".rstrip("/")
        found.append(EndpointUrl(bare, unquote(url.username or ""), unquote(url.password or "")))
    return tuple(found)


def _reaches_metadata(host: str) -> bool:
    """A resource's author must not make our Pods fetch a cloud's credentials."""
    if host.lower().rstrip(".") == "metadata.google.internal":
        return True
    try:
        # inet_aton knows the spellings that resolvers accept: 2852039166, 0xa9fea9fe
        address = ipaddress.ip_address(host if ":" in host else socket.inet_aton(host))
    except (OSError, ValueError):
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_link_local or str(mapped) == "fd00:ec2::254"


class Urls(Text):
    """Endpoints in a resource: never with credentials in them."""

    SCHEMES: ClassVar[tuple[str, ...]]
    PORT: ClassVar[int]
    MAX_LENGTH = 1024
    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        endpoints(text[: cls.MAX_LENGTH], cls.SCHEMES, cls.PORT)  # before the pattern: its words are clearer
        return super().__new__(cls, text)

    def check(self) -> None:
        if "@" in self:
            hint = "put them in a Secret and name it in authSecretRef"
            raise ValueRefusedError(Objection("has a user or password in it", self.ALLOWED, hint))

    @property
    def urls(self) -> tuple[str, ...]:
        """Each without a trailing slash."""
        return tuple(endpoint.url for endpoint in endpoints(self, self.SCHEMES, self.PORT))

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        no_password = cel.CelRule("!self.contains('@')", "no user or password in a URL: name a Secret in authSecretRef")
        no_metadata = cel.CelRule(
            "!self.matches('//(169[.]254[.]|metadata[.]google[.]internal)')", "link-local addresses are not allowed"
        )
        rules = [no_password.manifest(), no_metadata.manifest()]
        return {**super().__get_pydantic_json_schema__(core, handler), cel.KEY: rules}


def _pattern(schemes: tuple[str, ...]) -> str:
    url = rf"({'|'.join(schemes)})://[^ ,?#]+"
    return f"^{url}(, ?{url})*$"


class NatsUrls(Urls):
    """One NATS server or several."""

    SCHEMES = NATS_SCHEMES
    PORT = 4222
    PATTERN = _pattern(NATS_SCHEMES)
    ALLOWED = "nats://host:4222, several separated by commas; schemes nats, tls, ws, wss"
    __slots__ = ()


class ClickHouseUrls(Urls):
    """One HTTP endpoint of ClickHouse or several, for failover."""

    SCHEMES = CLICKHOUSE_SCHEMES
    PORT = 8123
    PATTERN = _pattern(CLICKHOUSE_SCHEMES)
    ALLOWED = "http://host:8123, several separated by commas; schemes http, https"
    __slots__ = ()


JsonObject = dict[str, Any]
"""A piece of another API, kept as it is."""
