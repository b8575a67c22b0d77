"""The edits of `schema.prisma`: what the application's client is made from after the migration."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute_of

from runbook.errors import UsageError
from runbook.export.prisma.block import Block, FieldLine, attribute, blocks, code, field
from runbook.operations.base import NAME_BYTES
from runbook.operations.create_enum import CreateEnum
from runbook.operations.create_index import CreateIndex
from runbook.spec import Spec
from runbook.visible import visible


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the application calls the table and its rows."""

    model_before: str
    model_after: str

    @property
    def migration(self) -> str:
        """What the migration does, as Prisma's folders say it."""
        return f"rename_{self.model_before.lower()}_to_{self.model_after.lower()}"


def model_names(spec: Spec, texts: list[str]) -> Names:
    """Return the model of the spec's table in the schema's files, and what it will be called.

    Raises `UsageError` where no model, or more than one, is that of the table.
    """
    found = [
        block.name
        for text in texts
        for lines in [text.splitlines()]
        for block in blocks(lines)
        if _is_of(spec, lines, block, spec.table)
    ]
    if len(found) != 1:
        after = any(
            _is_of(spec, lines, block, spec.table_after)
            for text in texts
            for lines in [text.splitlines()]
            for block in blocks(lines)
        )
        raise UsageError(
            f"{len(found) or 'No'} models of the Prisma schema are mapped to table {spec.table}"
            + (f", but one is to {spec.table_after} already." if after and not found else "."),
            "The schema is as the migration leaves it: take back its edits to export again."
            if after and not found
            else f'Correct the schema: one model must say @@map("{spec.table}").',
        )
    return Names(model_before=found[0], model_after=_model_after(spec, found[0]))


def _is_of(spec: Spec, lines: list[str], block: Block, table: str) -> bool:
    """Return whether a block is the model of a table."""
    if block.kind != "model":
        return False
    inner = [lines[at] for at in block.inner]
    mapped = next(filter(None, (attribute(line, "@@map") for line in inner)), block.name)
    schema = next(filter(None, (attribute(line, "@@schema") for line in inner)), spec.schema_)
    return (mapped, schema) == (table, spec.schema_)


def _model_after(spec: Spec, before: str) -> str:
    """Return the model's new name: the spec's, or one made from the table's as the old one was."""
    if spec.table_after == spec.table:
        return before
    return _identifier(spec.models.model if spec.models else _called_after(spec, before))


def _called_after(spec: Spec, before: str) -> str:
    """Return what is made of the table's new name as the model's was made of the old one."""
    pascal = [
        re.sub(r"(?:^|_)([^_])", lambda found: found[1].upper(), table)
        for table in (spec.table, spec.table_after)
    ]
    if before == spec.table:
        return spec.table_after
    is_singular = before == pascal[0].removesuffix("s") and before != pascal[0]
    return pascal[1].removesuffix("s") if is_singular else pascal[1]


def edit_schema(
    text: str, spec: Spec, names: Names, renamed: Mapping[str, str], *, has_enum: bool
) -> str:
    """Return a file of the schema with its edits; one that nothing concerns comes back as it is.

    `renamed` are the constraints and indexes that follow the table: name before → after.
    `has_enum` tells whether any file has the enum already.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    edit = _Edit(spec=spec, names=names, renamed=renamed, has_enum=has_enum)
    lines = edit.lines(text.replace("\r\n", "\n").split("\n"))
    return end.join(lines)


def enum_name(spec: Spec) -> str | None:
    """Return the enum type that the spec creates, by its name in the database."""
    enums = (one for one in spec.operations if isinstance(one, CreateEnum))
    return next((one.name for one in enums), None)


def has_enum(text: str, name: str) -> bool:
    """Return whether a file of the schema has the enum of a type."""
    lines = text.splitlines()
    return any(
        block.kind == "enum" and name in {block.name, *_mapped(lines, block)}
        for block in blocks(lines)
    )


def _mapped(lines: list[str], block: Block) -> list[str]:
    return [name for at in block.inner if (name := attribute(lines[at], "@@map"))]


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """The edits of one file."""

    spec: Spec
    names: Names
    renamed: Mapping[str, str]
    has_enum: bool
    _added: dict[int, list[str]] = attribute_of(default_factory=dict)
    """Lines that come after a line."""

    def lines(self, lines: list[str]) -> list[str]:
        """Return the file's lines after the edits."""
        edited = list(lines)
        for block in blocks(lines):
            if block.kind in {"model", "view", "type"}:
                self._relations(edited, block)
            if block.kind == "enum":
                self._labels(edited, block)
            if block.kind == "model" and block.name == self.names.model_before:
                self._model(edited, block)
        return [one for at, line in enumerate(edited) for one in [line, *self._added.get(at, [])]]

    def _relations(self, lines: list[str], block: Block) -> None:
        """Have the fields of other models name the model by its new name."""
        taken = {found.name for at in block.inner if (found := field(lines[at]))}
        for at in block.inner:
            found = field(lines[at])
            if found and found.model == self.names.model_before:
                name = self._relation_name(found.name)
                type_ = found.type.replace(self.names.model_before, self.names.model_after, 1)
                lines[at] = found.renamed(found.name if name in taken else name, type_)

    def _relation_name(self, name: str) -> str:
        """Return a relation's new name, where its old one was made from table or model."""
        made = {
            _camel(self.spec.table): _identifier(_camel(self.spec.table_after)),
            _lower_first(self.names.model_before): _lower_first(self.names.model_after),
        }
        return made.get(name, name)

    def _labels(self, lines: list[str], block: Block) -> None:
        """Add the labels that an existing enum lacks."""
        for operation in self.spec.operations:
            if not isinstance(operation, CreateEnum) or operation.name not in {
                block.name,
                *_mapped(lines, block),
            }:
                continue
            there = {
                attribute(lines[at], "@map") or code(lines[at]).split()[0]
                for at in block.inner
                if code(lines[at]).strip() and not code(lines[at]).lstrip().startswith("@@")
            }
            last = max((at for at in block.inner if code(lines[at]).strip()), default=block.first)
            missing = [label for label in operation.labels if label not in there]
            self._add(last, [f"  {_label(label)}" for label in missing])

    def _model(self, lines: list[str], block: Block) -> None:
        """Rename the model and its mapping, and add field, index and enum."""
        before, after = self.names.model_before, self.names.model_after
        header = lines[block.first]
        lines[block.first] = re.sub(rf"\b{re.escape(before)}\b", lambda _: after, header, count=1)
        for at in block.inner:
            lines[at] = self._named(lines[at])
        self._map(lines, block)
        columns = self._columns(lines, block)
        if self.spec.classify:
            columns[self.spec.classify.column] = self._field(lines, block, columns)
        self._indexes(lines, block, columns)
        created = enum_name(self.spec)
        if created and not self.has_enum:
            self._add(block.last, ["", *self._enum(created)])

    def _named(self, line: str) -> str:
        """Return a line whose `map:` names follow the table."""

        def follow(found: re.Match[str]) -> str:
            name = found[2]
            return found[1] + (_text(self.renamed[name]) if name in self.renamed else f'"{name}"')

        return re.sub(r"(\bmap:\s*)\"([^\"]*)\"", follow, line)

    def _map(self, lines: list[str], block: Block) -> None:
        """Map the model to the new table."""
        table, model = self.spec.table_after, self.names.model_after
        for at in block.inner:
            if attribute(lines[at], "@@map") is not None:
                lines[at] = lines[at].replace(_text(self.spec.table), _text(table), 1)
                return
        if model != table:
            self._add(block.last - 1, ["", f"  @@map({_text(table)})"])

    def _columns(self, lines: list[str], block: Block) -> dict[str, str]:
        """Return the model's columns: name in the database → field."""
        found = {at: line for at in block.inner if (line := field(lines[at]))}
        return {attribute(lines[at], "@map") or line.name: line.name for at, line in found.items()}

    def _field(self, lines: list[str], block: Block, columns: Mapping[str, str]) -> str:
        """Add the column's field after the last one that the rules look at; return its name."""
        classify = self.spec.classify
        assert classify is not None
        fields = {line.name: at for at in block.inner if (line := field(lines[at]))}
        looked_at = [fields[columns[name]] for name in classify.rule_columns() if name in columns]
        at = max(looked_at or fields.values())
        beside = field(lines[at])
        assert beside is not None
        is_camel = any(column != name for column, name in columns.items())
        name = _identifier(_camel(classify.column) if is_camel else classify.column)
        mapped = "" if name == classify.column else f"@map({_text(classify.column)})"
        line = FieldLine(
            indent=beside.indent,
            name=beside.name,
            gap=beside.gap,
            type=beside.type,
            rest=_padding(beside.rest) + mapped if mapped else "",
        )
        self._add(at, [line.renamed(name, _identifier(classify.type)).rstrip()])
        return name

    def _indexes(self, lines: list[str], block: Block, columns: Mapping[str, str]) -> None:
        """Add the spec's indexes after those that are there."""
        created = [one for one in self.spec.operations if isinstance(one, CreateIndex)]
        # Prisma knows btree for what has no `type`.
        new = [self._index(one, columns) for one in created]
        there = [at for at in block.inner if re.match(r"\s*@@(index|unique|id)\b", code(lines[at]))]
        last = max(there, default=None)
        if last is not None:
            indent = re.match(r"\s*", lines[last])
            self._add(last, [f"{indent[0] if indent else '  '}{one}" for one in new])
        elif new:
            filled = [at for at in block.inner if field(lines[at])]
            self._add(max(filled), ["", *(f"  {one}" for one in new)])

    def _index(self, operation: CreateIndex, columns: Mapping[str, str]) -> str:
        """Return an index's declaration; its name only where Prisma would give another."""
        label, word = ("key", "unique") if operation.unique else ("idx", "index")
        fields = ", ".join(_field_of(name, columns) for name in operation.columns)
        parts = [f"[{fields}]"]
        parts += [f"type: {_METHODS[operation.method]}"] if operation.method != "btree" else []
        derived = f"{self.spec.table_after}_{'_'.join(operation.columns)}_{label}"
        if derived != operation.name or len(derived.encode()) > NAME_BYTES:
            parts.append(f"map: {_text(operation.name)}")
        return f"@@{word}({', '.join(parts)})"

    def _enum(self, name: str) -> list[str]:
        """Return the enum's block."""
        (operation,) = (
            one for one in self.spec.operations if isinstance(one, CreateEnum) and one.name == name
        )
        identifier = _identifier(name)
        mapped = ["", f"  @@map({_text(name)})"] if identifier != name else []
        labels = [f"  {_label(label)}" for label in operation.labels]
        return [f"enum {identifier} {{", *labels, *mapped, "}"]

    def _add(self, at: int, lines: list[str]) -> None:
        if lines:
            self._added.setdefault(at, []).extend(lines)


_METHODS: Mapping[str, str] = {
    "hash": "Hash",
    "gin": "Gin",
    "gist": "Gist",
    "spgist": "SpGist",
    "brin": "Brin",
}


def _camel(name: str) -> str:
    """Return a name in snake case as Prisma's fields have it."""
    return re.sub(r"_+([^_])", lambda found: found[1].upper(), name)


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]


def _padding(rest: str) -> str:
    """Return the blanks before a field's attributes."""
    return rest[: len(rest) - len(rest.lstrip(" "))] or " "


def _identifier(name: str) -> str:
    """Return a name as Prisma's grammar takes it: a letter first, then letters, digits, `_`."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII)
    return made if made[:1].isalpha() else f"E{made}"


def _label(label: str) -> str:
    """Return an enum's value, mapped where its label is no identifier."""
    identifier = _identifier(label)
    return label if identifier == label else f"{identifier} @map({_text(label)})"


def _text(name: str) -> str:
    """Return a name as a string of the schema. Raises `UsageError` for one that no line can hold:
    a generator's command could follow it, which `prisma generate` runs."""
    if visible(name) != name:
        raise UsageError(
            f"The name {name!r} holds a line break or a control character, and a Prisma schema can "
            "hold neither.",
            "Give it another name, then export again.",
        )
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _field_of(column: str, columns: Mapping[str, str]) -> str:
    """Return the field of a column. Raises `UsageError` where there is none and it is no name."""
    name = columns.get(column, column)
    if _identifier(name) != name:
        raise UsageError(
            f"The Prisma model has no field that is mapped to the column {name!r}.",
            f"Add one with @map({_text(name)}), then export again.",
        )
    return name
