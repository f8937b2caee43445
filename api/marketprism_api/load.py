"""Reads resources from YAML, and says in a person's words what is wrong with them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from .meta import API_VERSION, GROUP
from .pipeline import StoragePipeline
from .problems import Objection, Problem, ResourceError, ValueRefusedError, did_you_mean, shown
from .tiering import TieringPolicy, misfits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic_core import ErrorDetails

AnyResource: TypeAlias = StoragePipeline | TieringPolicy
KINDS: dict[str, type[StoragePipeline] | type[TieringPolicy]] = {
    StoragePipeline.KIND: StoragePipeline,
    TieringPolicy.KIND: TieringPolicy,
}

MAX_BYTES = 1024 * 1024
"""The API server takes no larger resource either."""
MAX_NODES = 50_000
"""Values in a document, those repeated by an alias counted each time."""

_Loc: TypeAlias = tuple[int | str, ...]


def load(source: str | Path) -> list[AnyResource]:
    """The resources in a file, in `-` (standard input), or in YAML text (a str with a line break).

    Documents of other kinds, such as a Secret beside them, are passed over.
    Raises ResourceError with every problem found.
    """
    if isinstance(source, str) and "\n" in source:
        return parse(source)
    return parse(read(source), "standard input" if str(source) == "-" else str(source))


def load_pipeline(source: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> StoragePipeline:
    """The one StoragePipeline of `source`, or of the file that MARKETPRISM_FILE names. Raises ResourceError."""
    source = source or environ.get("MARKETPRISM_FILE", "").strip()
    if not source:
        raise ResourceError([Problem("no file was given", hint="name one with -f, or in MARKETPRISM_FILE")])
    return pipeline_of(load(source), source)


def pipeline_of(resources: Sequence[AnyResource], source: str | Path) -> StoragePipeline:
    """The one StoragePipeline of those loaded from `source`. Raises ResourceError."""
    found = [resource for resource in resources if isinstance(resource, StoragePipeline)]
    if len(found) == 1:
        return found[0]
    file = "" if "\n" in str(source) else str(source)
    names = ", ".join(resource.metadata.name for resource in found)
    message = f"holds {len(found)} pipelines: {names}" if found else "holds no StoragePipeline"
    raise ResourceError([Problem(message, file=file, allowed="exactly one StoragePipeline")])


def read(source: str | Path) -> str:
    """A file's text, or standard input for `-`. Raises ResourceError."""
    name = "standard input" if str(source) == "-" else str(source)
    try:
        if str(source) == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ResourceError([Problem("is too large", file=name, allowed="at most 1 MiB")])
        return data.decode("utf-8-sig")
    except IsADirectoryError:
        raise ResourceError([Problem("is a directory", file=name, hint="name a file in it")]) from None
    except FileNotFoundError:
        raise ResourceError([Problem("there is no such file", file=name)]) from None
    except UnicodeDecodeError:
        raise ResourceError([Problem("is not UTF-8 text", file=name)]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ResourceError([Problem(f"can't be read: {reason or 'not a file name'}", file=name)]) from None


def parse(text: str, name: str = "") -> list[AnyResource]:
    """The resources in YAML text. `name` stands for the file in messages. Raises ResourceError."""
    if len(text.encode()) > MAX_BYTES:
        raise ResourceError([Problem("is too large", file=name, allowed="at most 1 MiB")])
    problems: list[Problem] = []
    found: list[AnyResource] = []
    others: list[str] = []
    for number, (data, root) in enumerate(_documents(text, name), 1):
        try:
            resource = _resource(data, root, name, number)
        except ResourceError as error:
            problems += error.problems
            continue
        if resource:
            found.append(resource)
        elif data is not None:
            others.append(str(data.get("kind", "nothing")))
    problems += _misfits(found, name)
    if not found and not problems:
        message = "holds no resource of ours" + (f", only {', '.join(others)}" if others else ": it is empty")
        problems.append(Problem(message, file=name, allowed=" or ".join(KINDS)))
    if problems:
        raise ResourceError(problems)
    return found


def of_manifest(manifest: Mapping[str, Any]) -> AnyResource:
    """A resource of ours as the API server has it, by the same rules. Raises ResourceError."""
    found = _resource(dict(manifest), None, "", 1)
    if found is None:
        raise ResourceError([Problem("is not a kind of ours", path="kind", allowed=" or ".join(KINDS))])
    return found


def _misfits(found: list[AnyResource], name: str) -> Iterator[Problem]:
    policies = [resource for resource in found if isinstance(resource, TieringPolicy)]
    for pipeline in found:
        if isinstance(pipeline, StoragePipeline):
            whose = (pipeline.metadata.namespace, pipeline.metadata.name)
            own = [p for p in policies if (p.metadata.namespace, p.spec.pipeline_ref.name) == whose]
            for objection in (objection for policy in own for objection in misfits(policy, pipeline, own)):
                yield Problem(
                    objection.message, name, path=objection.path, allowed=objection.allowed, hint=objection.hint
                )


# --- YAML


class _Loader(yaml.SafeLoader):
    """Refuses what would silently mean something else: a key twice, a key that isn't a text. Dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _documents(text: str, name: str) -> Iterator[tuple[Any, yaml.Node | None]]:
    """Each document as data and as nodes, which know their lines."""
    number = 1
    try:
        loader = _Loader(text)
        while loader.check_node():
            root = loader.get_node()
            problems = [] if root is None else list(_yaml_problems(root))
            if problems:
                raise ResourceError(
                    Problem(message, name, number, node.start_mark.line + 1, hint=hint)
                    for node, message, hint in problems
                )
            yield loader.construct_document(root), root
            number += 1
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # the library's words end where a value, which may be a secret, could begin
        what = (error.problem or error.context or "").partition("'" if "alias" in (error.problem or "") else "\0")[0]
        hint = "indent with spaces" if "'\\t'" in (error.problem or "") else ""
        line = mark.line + 1 if mark else None
        raise ResourceError([Problem(f"is not YAML: {what}", name, number, line, hint=hint)]) from None
    except (yaml.YAMLError, ValueError):
        raise ResourceError([Problem("is not YAML: it holds what no text may hold", name, number)]) from None
    except RecursionError:
        raise ResourceError([Problem("is nested too deeply", name, number)]) from None


def _yaml_problems(root: yaml.Node) -> Iterator[tuple[yaml.Node, str, str]]:
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_:
            return MAX_NODES + 1  # it holds itself
        if id(node) not in sizes:
            open_.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            open_.remove(id(node))
        return sizes[id(node)]

    if size(root) > MAX_NODES:
        yield root, "is too large once its aliases are resolved", "write it without anchors"
        return
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        todo += _children(node)
        if isinstance(node, yaml.MappingNode):
            keys: dict[str, int] = {}
            for key, _ in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.tag != "tag:yaml.org,2002:str":
                    yield key, "a key is not a text", f"put it in quotes: {shown(str(key.value))}"
                elif key.value in keys:
                    yield key, f"the key {shown(key.value)} is there twice", f"it is in line {keys[key.value]} too"
                else:
                    keys[key.value] = key.start_mark.line + 1


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


# --- resources


def _resource(data: Any, root: yaml.Node | None, name: str, number: int) -> AnyResource | None:
    """The document's resource, None for one that isn't ours. Raises ResourceError."""

    def refuse(message: str, path: str = "", value: str = "", allowed: str = "", hint: str = "") -> ResourceError:
        line = _line(root, (path,) if path else ())
        return ResourceError([Problem(message, name, number, line, path, value, allowed, hint)])

    if data is None:
        return None
    if not isinstance(data, dict):
        raise refuse("is not a resource", allowed="apiVersion, kind, metadata and spec")
    version, kind = data.get("apiVersion"), data.get("kind")
    ours = isinstance(version, str) and version.split("/")[0] == GROUP
    if kind not in KINDS and (ours or kind is None or version is None):
        hint = did_you_mean(kind, list(KINDS)) if isinstance(kind, str) else ""
        raise refuse("is not a kind of ours" if kind else "is required", "kind", shown(kind), " or ".join(KINDS), hint)
    if kind not in KINDS:
        return None
    if version != API_VERSION:
        message = "is not our apiVersion" if version else "is required"
        raise refuse(message, "apiVersion", shown(version), API_VERSION)
    try:
        return KINDS[kind].model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = [problem for detail in error.errors() for problem in _problems(detail, data, KINDS[kind])]
        raise ResourceError(
            Problem(p.message, name, number, _line(root, loc), _path(loc), p.value, p.allowed, p.hint)
            for loc, p in problems
        ) from None
    except RecursionError:
        raise refuse("is nested too deeply") from None


def _problems(detail: ErrorDetails, data: Any, kind: type[BaseModel]) -> Iterator[tuple[_Loc, Problem]]:
    """What pydantic found, in other words, each with its place."""
    loc: _Loc = tuple(part for part in detail["loc"] if part != "[key]")
    is_key = len(loc) < len(detail["loc"])
    context = detail.get("ctx", {})
    error = context.get("error")
    if isinstance(error, ValueRefusedError):
        for objection in error.objections:
            place = (*loc, *objection.path.split(".")) if objection.path else loc
            value = _shown(place, loc[-1] if is_key else _at(data, place))
            yield place, Problem(objection.message, value=value, allowed=objection.allowed, hint=objection.hint)
        return
    fields = _fields(kind, loc[:-1])
    if detail["type"] == "extra_forbidden":
        word = str(loc[-1])
        hint = _secret_hint(word) or did_you_mean(word, list(fields)) or _deeper(word, fields)
        yield loc, Problem("there is no such field", allowed=", ".join(fields), hint=hint)
        return
    value = "" if detail["type"] == "missing" else _shown(loc, loc[-1] if is_key else detail["input"])
    objection = _words(detail["type"], context, detail["input"])
    yield loc, Problem(objection.message, value=value, allowed=objection.allowed, hint=objection.hint)


_WANTED = {
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "tuple_type": "must be a list",
}


def _words(kind: str, context: dict[str, Any], given: object) -> Objection:
    if kind == "missing":
        return Objection("is required")
    if kind in ("enum", "literal_error"):
        choices = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        hint = did_you_mean(given, choices) if isinstance(given, str) else ""
        if isinstance(given, bool):
            hint = "put it in quotes"
        return Objection("is not one of the choices", ", ".join(choices), hint)
    if kind in _WANTED:
        hint = "write {} for the defaults" if given is None else ""
        if isinstance(given, str) and kind in ("int_type", "bool_type"):
            hint = "write it without quotes"
        if isinstance(given, bool | int | float) and kind == "string_type":
            hint = "put it in quotes: YAML reads no, off and 1.0 as something else"
        return Objection(_WANTED[kind], hint=hint)
    if kind in ("greater_than_equal", "less_than_equal"):
        least, most = context.get("ge"), context.get("le")
        return Objection(
            "is too small" if most is None else "is too large",
            f"{least} or more" if most is None else f"{most} or less",
        )
    if kind in ("too_short", "string_too_short"):
        return Objection("is empty", hint="leave it out, or fill it")
    if kind in ("too_long", "string_too_long"):
        return Objection("is too long", f"at most {context.get('max_length')}")
    return Objection("is not allowed here")


def _secret_hint(word: str) -> str:
    secret = word.lower().rstrip("s") in (
        "password",
        "user",
        "username",
        "token",
        "secret",
        "credential",
        "auth",
        "passwd",
    )
    return "credentials belong in a Secret: name it in authSecretRef" if secret else ""


def _deeper(word: str, fields: dict[str, Any]) -> str:
    """A field of that name one level below."""
    for name, annotation in fields.items():
        model = _model(annotation)
        if model and word in (_alias(child, info) for child, info in model.model_fields.items()):
            return f"did you mean `{name}.{word}`?"
    return ""


def _fields(kind: type[BaseModel], loc: _Loc) -> dict[str, Any]:
    """The fields of the object at `loc`, by their name in YAML."""
    model: type[BaseModel] | None = kind
    for part in loc:
        if model is None:
            return {}
        fields = {_alias(name, info): info.annotation for name, info in model.model_fields.items()}
        # a part that is no field is a key of the map or a place in the list that was just passed
        model = _model(fields[str(part)]) if part in fields else model
    return {_alias(name, info): info.annotation for name, info in model.model_fields.items()} if model else {}


def _alias(name: str, info: Any) -> str:
    return info.alias or name


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `dict[Name, Model] | None`."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := _model(part))), None)


def _at(data: Any, loc: _Loc) -> Any:
    for part in loc:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _shown(loc: _Loc, value: object) -> str:
    """`value`, but not where a secret may have been put by mistake."""
    private = any(str(part).endswith("SecretRef") or part == "podTemplate" or _secret_hint(str(part)) for part in loc)
    return "" if private else shown(value)


def _path(loc: _Loc) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _line(root: yaml.Node | None, loc: _Loc) -> int | None:
    """The line of what is at `loc`, or of the nearest thing above it."""
    line = None
    for part in loc:
        if isinstance(root, yaml.MappingNode):
            pair = next(((key, value) for key, value in root.value if key.value == part), None)
            if pair is None:
                break
            line, root = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(root, yaml.SequenceNode) and isinstance(part, int) and part < len(root.value):
            root = root.value[part]
            line = root.start_mark.line + 1
        else:
            break
    return line if line or root is None else root.start_mark.line + 1
