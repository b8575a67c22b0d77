"""The edits of schema.prisma: what changes, and that nothing else does, whatever its layout."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import UsageError
from runbook.export.prisma.block import code
from runbook.export.prisma.schema import edit_schema, has_enum, model_names
from runbook.spec import Spec, load_spec
from tests.cases import RENAMED
from tests.operations.test_specs import spec_of

SCHEMA = (Path(__file__).resolve().parents[1] / "prisma/app/prisma/schema.prisma").read_text()
LLAMALOG = load_spec("llamalog")

ADDED = [
    '  @@index([category, createdAt], map: "llama_logs_category_createdAt_idx")',
    "",
    "enum LlamaLogCategory {",
    *(f"  {label}" for label in ("CREATED", "ENRICHED", "CORRECTED", "CACHED", "FAILED")),
    "}",
]


def edited(text: str, spec: Spec = LLAMALOG, **renamed: str) -> str:
    names = model_names(spec, [text])
    there = has_enum(text, "LlamaLogCategory")
    return edit_schema(text, spec, names, renamed, has_enum=there)


def changes(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that are gone, and those that are new, in their order."""
    old, new = before.splitlines(), after.splitlines()
    return [one for one in old if one not in new], [one for one in new if one not in old]


def test_the_applications_schema_gets_what_the_migration_needs() -> None:
    gone, new = changes(SCHEMA, edited(SCHEMA))
    assert gone == [
        "  enrichmentLogs EnrichmentLog[]",
        "  enrichmentLogs EnrichmentLog[] // an EnrichmentLog for each attempt",
        "  enrichmentLogs EnrichmentLog[]",
        "  enrichmentLogs EnrichmentLog[]",
        "model EnrichmentLog {",
        '  @@map("enrichment_logs")',
    ]
    assert new == [
        "  llamaLogs      LlamaLog[]",
        "  llamaLogs      LlamaLog[]      // an EnrichmentLog for each attempt",
        "  llamaLogs      LlamaLog[]",
        "  llamaLogs      LlamaLog[]",
        "model LlamaLog {",
        "  category          LlamaLogCategory",
        ADDED[0],
        '  @@map("llama_logs")',
        ADDED[2],
        *ADDED[3:4],
        *ADDED[4:7],
    ]
    lines = edited(SCHEMA).splitlines()
    status = lines.index("  status            EnrichmentStatus")
    assert lines[status + 1] == "  category          LlamaLogCategory"
    assert lines[-9:-1] == ["}", *ADDED[1:-1]] and lines[-1] == "}"


COMMENTS = st.sampled_from(
    [
        "  // model EnrichmentLog {",
        '  // @@map("enrichment_logs")',
        "  /// enrichmentLogs EnrichmentLog[]",
        "  /* status EnrichmentStatus",
        "",
        "  // }",
    ]
)


@given(
    inserted=st.lists(st.tuples(st.integers(0, 150), COMMENTS), max_size=12),
    wide=st.integers(1, 3),
    crlf=st.booleans(),
)
def test_comments_and_layout_stay_wherever_they_are(
    inserted: list[tuple[int, str]], wide: int, crlf: bool
) -> None:
    lines = [re.sub(r"(?<=\S) (?=\S)", " " * wide, line) for line in SCHEMA.split("\n")]
    for at, comment in sorted(inserted, reverse=True):
        if "/*" in comment:
            lines[at:at] = [comment, "  enrichmentLogs EnrichmentLog[]", "  } */"]
        else:
            lines.insert(at, comment)
    text = "\n".join(lines)
    plain = edited(text)
    if crlf:
        assert edited(text.replace("\n", "\r\n")) == plain.replace("\n", "\r\n")
    # Without what was added, and with the old names, it is the same but for blanks.
    kept = [line for line in plain.split("\n") if line.strip() not in _added(wide)]
    back = [_old_names(line) for line in kept]
    assert [line.split() for line in back if line.strip()] == [
        line.split() for line in lines if line.strip() and line.strip() not in _added(wide)
    ]


def _added(wide: int) -> set[str]:
    labels = {"CREATED", "ENRICHED", "CORRECTED", "CACHED"}
    field = f"category{' ' * 10}LlamaLogCategory"
    return {ADDED[0].strip(), "enum LlamaLogCategory {", "}", "FAILED", field, *labels}


def _old_names(line: str) -> str:
    """Return a line with the old names in its code; what is said in comments stays."""
    if code(line).strip():
        for new, old in (
            ("llamaLogs", "enrichmentLogs"),
            ("llama_logs", "enrichment_logs"),
            (r"\bLlamaLog\b", "EnrichmentLog"),
        ):
            line = re.sub(new, old, line, count=1)
    return line


def test_a_schema_in_several_files_is_edited_file_by_file() -> None:
    models = SCHEMA[: SCHEMA.index("/// One entry")]
    logs = SCHEMA[SCHEMA.index("/// One entry") :]
    names = model_names(LLAMALOG, [models, logs])
    parts = [edit_schema(one, LLAMALOG, names, {}, has_enum=False) for one in (models, logs)]
    assert "".join(parts) == edited(SCHEMA)
    other = "model Session {\n  id String @id\n}\n"
    assert edit_schema(other, LLAMALOG, names, {}, has_enum=False) == other


def test_names_that_the_schema_gives_follow_the_table() -> None:
    text = SCHEMA.replace(
        "@@index([operation])", '@@index([operation], map: "enrichment_logs_op_idx")'
    )
    after = edited(text, enrichment_logs_op_idx="llama_logs_op_idx")
    assert '@@index([operation], map: "llama_logs_op_idx")' in after
    assert "enrichment_logs_op_idx" not in after


def test_an_enum_that_is_there_gets_the_labels_that_it_lacks() -> None:
    text = SCHEMA + "\nenum LlamaLogCategory {\n  CREATED\n  ENRICHED // most\n}\n"
    after = edited(text)
    assert after.count("enum LlamaLogCategory") == 1
    assert after.endswith("  CREATED\n  ENRICHED // most\n  CORRECTED\n  CACHED\n  FAILED\n}\n")


def test_a_relation_of_another_name_keeps_it() -> None:
    text = SCHEMA.replace("enrichmentLogs EnrichmentLog[] //", "history EnrichmentLog[] //")
    assert re.search(r"history\s+LlamaLog\[\]", edited(text))


TICKET = """model Ticket {
  id       Int     @id
  state    String?
  priority Int?
  ticketId Int     @map("ticket_id")

  @@map("tickets")
}
"""


def test_without_models_the_new_name_is_made_as_the_old_one_was() -> None:
    after = edited(TICKET, spec_of(RENAMED))
    assert "model Issue {" in after and '@@map("issues")' in after
    plain = TICKET.replace("Ticket {", "tickets {").replace('\n  @@map("tickets")\n', "")
    after = edited(plain, spec_of(RENAMED))
    assert "model issues {" in after and "@@map" not in after


def test_what_is_no_identifier_is_mapped() -> None:
    text = RENAMED.replace('"unknown"', '"2 low"')
    after = edited(TICKET, spec_of(text))
    assert 'E2_low @map("2 low")' in after


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model A {\n  id Int @id\n}\n", "No models of the Prisma schema are mapped to table"),
        (TICKET + TICKET.replace("Ticket ", "Other "), "2 models of the Prisma schema"),
        (
            TICKET.replace('"tickets"', '"issues"'),
            "but one is to issues already",
        ),
    ],
)
def test_a_schema_without_the_tables_model_is_wrong_usage(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        edited(text, spec_of(RENAMED))
    assert message in refused.value.message
