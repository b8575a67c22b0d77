"""Files for other tools, of a table and a spec whose names are that tool's own syntax."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook import sql
from tests.conftest import Cluster
from tests.dumps import difference, dumped
from tests.export.test_hosted import rollback_of, run_at_once
from tests.trust.owners import SPEC, Owned, owned

CHANGESET = "x\n--changeset e:1\nALTER ROLE app SUPERUSER\n"
PRECONDITION = "a\r--preconditions onFail:MARK_RAN\r\n"
PLACEHOLDER = "${user}\n/* liquibase rollback\n"
PYTHON = "q\"\"\"\nimport os\n'''\\"
GENERATOR = 'y")\n}\ngenerator evil {\n provider = "touch gained"\n}\nmodel Z {\n'

DIRECTIVE = re.compile(
    r"\s*-{1,2}\s*(liquibase|changeset|rollback|precondition|ignore|property|include|comment|valid"
    r"|labels?|logicalFile)|\s*(//|/\*)",
    re.IGNORECASE,
)
"""What Liquibase's parser of formatted SQL takes for an instruction, in any line."""


def hostile(text: str) -> str:
    """Return the spec with such names: a title, labels, values, a column, an index, the table."""
    for before, after in (
        ("Sorting", f"changeset e:2 {PLACEHOLDER}"),
        ("n 2", PLACEHOLDER),
        ("issues_kind_idx", f"i{PYTHON}"),
        ("odd", f"odd{CHANGESET}"),
    ):
        text = text.replace(f'"{before}"', json.dumps(after))
    return text.replace('column = "note"', f"column = {json.dumps(CHANGESET)}")


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path, hostile(SPEC)) as made:
        made.as_owner(
            *(
                sql.render(f"ALTER TABLE app.tickets RENAME {before} TO {{it}}", it=after)
                for before, after in (("note", CHANGESET), ("amount", PRECONDITION))
            ),
            *(
                sql.render("ALTER TABLE app.tickets ADD {it} integer", it=name)
                for name in (PLACEHOLDER, PYTHON, "b\n--ignoreLines:start\n")
            ),
            sql.render(
                "UPDATE app.tickets SET name = {it} WHERE id = 7", it=sql.value(PLACEHOLDER)
            ),
        )
        yield made


def file_of(place: Owned, tool: str) -> str:
    ended = place.run("plan", "--spec", "sorting.toml", "--mode", "atomic", "--format", tool)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_changelog_holds_no_instruction_of_others(place: Owned) -> None:
    before = dumped(place.database)
    text = file_of(place, "liquibase")
    found = [line for line in text.splitlines() if DIRECTIVE.match(line)]
    assert found[0] == "--liquibase formatted sql"
    assert found[1].startswith("--changeset migration-runbook:sorting-")
    assert all(line.startswith("--rollback ") for line in found[2:]) and "${" not in text
    run_at_once(place.database, text)
    assert place.run("verify", "--spec", "sorting.toml").returncode == 0
    run_at_once(place.database, rollback_of(text))
    assert not difference(before, dumped(place.database))


def test_flyways_file_holds_no_placeholder(place: Owned) -> None:
    text = file_of(place, "flyway")
    assert "${" not in text and not [
        line for line in text.splitlines() if "changeset e" in line[:12]
    ]
    run_at_once(place.database, text)
    labels = "SELECT count(*) FROM app.issues WHERE kind = 'named' AND name LIKE '$%'"
    assert place.database.value(labels) == 1


def test_a_revision_of_alembic_holds_texts_alone(place: Owned) -> None:
    ended = place.run(
        *("export", "alembic", "--spec", "sorting.toml", "--out", "versions"),
        *("--down-revision", PYTHON),
    )
    assert ended.returncode == 0, ended.stderr
    (file,) = (place.folder / "versions").glob("*.py")
    tree = ast.parse(file.read_text("utf-8"))
    imported = [ast.unparse(one) for one in ast.walk(tree) if isinstance(one, ast.Import)]
    assert not imported and "import os" in (ast.get_docstring(tree) or "")
    values = {one.targets[0].id: one.value for one in tree.body  # type: ignore[attr-defined]
              if isinstance(one, ast.Assign)}  # fmt: skip
    assert ast.literal_eval(values["down_revision"]) == PYTHON


@pytest.mark.parametrize("made", [CHANGESET, PLACEHOLDER], ids=["line", "placeholder"])
def test_what_postgresql_prints_is_refused_where_a_tool_would_read_it(
    newest: Cluster, tmp_path: Path, made: str
) -> None:
    with owned(newest, tmp_path) as place:
        place.as_owner(
            sql.render("ALTER TYPE app.status RENAME TO {it}", it=made),
            sql.render("ALTER TABLE app.tickets ALTER note SET DEFAULT {it}", it=sql.value(made)),
        )
        for tool in ("liquibase", "flyway"):
            ended = place.run(
                *("plan", "--spec", "sorting.toml", "--mode", "atomic", "--old-name-view"),
                *("--format", tool),
            )
            assert ended.returncode == 2 and not ended.stdout
            assert "Give it the default of note" in ended.stderr
            assert re.search(r"'(--changeset e:1|/\* liquibase rollback)'", ended.stderr)


SCHEMA = """
model tickets {
  id     BigInt @id @default(autoincrement())
  name   String?
}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("issues", 'y")\n}\nmodel Z {\n'),
        ("issues_kind_idx", GENERATOR),
        ("odd", GENERATOR),
        ("kind", GENERATOR),
        ("issues", "../../../../x"),
        ("issues_kind_idx", 'i") generator \\'),
    ],
)
def test_no_name_ends_a_line_of_prismas_schema(
    newest: Cluster, tmp_path: Path, before: str, after: str
) -> None:
    with owned(newest, tmp_path, SPEC.replace(f'"{before}"', json.dumps(after))) as place:
        folder = place.folder / "prisma"
        (folder / "migrations").mkdir(parents=True)
        schema = folder / "schema.prisma"
        schema.write_text(SCHEMA, "utf-8")
        ended = place.run("export", "prisma", "--spec", "sorting.toml", "--prisma-dir", "prisma")
        text = schema.read_text("utf-8")
        assert "generator evil" not in text and not re.search(r"^\s*provider", text, re.MULTILINE)
        made = [*folder.rglob("migration.sql")]
        if "\n" in after:
            assert ended.returncode == 2 and text == SCHEMA and not made
            assert "holds a line break or a control character" in ended.stderr
        else:
            assert ended.returncode == 0, ended.stderr
            assert made[0].parent.parent == folder / "migrations"
            assert f"{json.dumps(after)})" in text
