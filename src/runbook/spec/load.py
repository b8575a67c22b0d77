"""Reading a spec: TOML through pydantic, with errors that say where and what would be right."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runbook.bounded import TooLarge, read_text
from runbook.errors import SpecError
from runbook.spec.model import Spec

_EXAMPLE = "The shipped spec llamalog.toml is an example of every operation."


def shipped_specs() -> tuple[str, ...]:
    """Return the names of the specs inside the package."""
    files = resources.files("runbook").joinpath("specs").iterdir()
    return tuple(sorted(Path(f.name).stem for f in files if f.name.endswith(".toml")))


def load_spec(reference: str) -> Spec:
    """Return the spec of that name (`llamalog`) or in that file (any path to a `.toml`).

    With `@` and a schema's name behind it (`llamalog@tenant_7`) it is for the table of that schema,
    and not of the one that the spec names. Raises `SpecError` if there is no such spec, or if it
    cannot be read or makes no sense.
    """
    file, schema = split_reference(reference)
    return parse_spec(_text(file), file=file, schema=schema)


def split_reference(reference: str) -> tuple[str, str]:
    """Return the name or path of a spec, and the schema that is meant; empty for the spec's own."""
    file, separator, schema = reference.rpartition("@")
    is_named = separator and (file in shipped_specs() or file.endswith(".toml"))
    return (file, schema) if is_named else (reference, "")


def parse_spec(text: str, *, file: str, schema: str = "") -> Spec:
    """Return the spec that a TOML text describes, for its own schema or for `schema`; `file` is its
    name in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(
            f"Spec {file} is not valid TOML: {error}.", "Correct that line.", file=file
        ) from None
    except RecursionError:
        raise _too_deep(file) from None
    try:
        return Spec.model_validate(document | ({"schema": schema} if schema else {}))
    except ValidationError as error:
        if any(one["type"].startswith("recursion") for one in error.errors(include_url=False)):
            raise _too_deep(file) from None
        raise _spec_error(error, document, file) from None
    except RecursionError:
        raise _too_deep(file) from None


def _too_deep(file: str) -> SpecError:
    return SpecError(
        f"Spec {file} is nested too deeply to be read.",
        "Write its conditions side by side: `any` and `all` take lists.",
        file=file,
    )


def _text(reference: str) -> str:
    """Return the text of a spec."""
    if reference in shipped_specs():
        return resources.files("runbook").joinpath("specs", f"{reference}.toml").read_text("utf-8")
    path = Path(reference).expanduser()
    if path.suffix != ".toml":
        raise SpecError(
            f"There is no spec named {reference!r}.",
            f"Shipped with the package: {', '.join(shipped_specs())}; "
            "for one of your own give the path of its .toml file.",
            file=reference,
        )
    try:
        return read_text(path)
    except FileNotFoundError:
        problem, remedy = "is not there", "Correct the path."
    except TooLarge as error:
        problem, remedy = str(error), "No spec is that large: correct the path."
    except UnicodeDecodeError as error:
        problem, remedy = f"is not UTF-8 (byte {error.start})", "Save it as UTF-8."
    except OSError as error:
        problem, remedy = f"cannot be read: {error.strerror}", "Make the file readable."
    raise SpecError(f"Spec {reference} {problem}.", remedy, file=reference)


def _spec_error(error: ValidationError, document: dict[str, Any], file: str) -> SpecError:
    """Say the first thing that is wrong, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    location, operation = _location(first["loc"], document)
    field = ".".join(location)
    where = (
        f"Spec {file}" + (f", {operation}" if operation else "") + (f", {field}" if field else "")
    )
    found = first["input"]
    shown = f" (found: {_short(found)})" if not isinstance(found, dict | list | Spec) else ""
    more = f" It is the first of {len(problems)} problems." if len(problems) > 1 else ""
    return SpecError(
        f"{where}: {_problem(first)}{shown}.",
        f"Correct it in the file.{more} {_EXAMPLE}",
        file=file,
        operation=operation,
        field=field,
    )


def _location(loc: tuple[int | str, ...], document: dict[str, Any]) -> tuple[list[str], str]:
    """Split pydantic's location into the field's path and the operation in words."""
    path = list(loc)
    operation = ""
    if len(path) >= 2 and path[0] == "operation" and isinstance(path[1], int):
        place = path[1]
        entry = document["operation"][place]
        op = entry.get("op") if isinstance(entry, dict) else None
        operation = f"operation {place + 1}" + (f" ({op})" if isinstance(op, str) else "")
        path = path[2:]
        if path and path[0] == op:  # pydantic puts the discriminator's value into the location
            path = path[1:]
    return [
        f"{item + 1}" if isinstance(item, int) else item
        for item in path
        if not (isinstance(item, str) and item.startswith(("function-", "tuple[")))
    ], operation


def _problem(problem: Any) -> str:
    """Return pydantic's message in this tool's words, without a full stop."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "missing":
        return "this field is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return "`op` must be one of rename_table, create_enum, classify, create_index"
    if kind == "value_error":
        return str(context["error"])
    message = str(problem["msg"])
    return message[0].lower() + message[1:]


def _short(found: object) -> str:
    """Return a value as it would stand in a message."""
    text = repr(found)
    return text if len(text) <= 60 else text[:57] + "…"
