"""Everything that is refused before anything is changed: exit code, sentence, remedy, bundle."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runbook.plan import blockers
from tests.conftest import Database
from tests.migrating import findings_of
from tests.state import database_state

LIMITED = (
    "CREATE ROLE limited LOGIN",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited",
)


@dataclass(frozen=True)
class Refusal:
    """A prepared database, the parameters of a migration, and what it must say."""

    name: str
    sql: tuple[str, ...]
    message: str
    arguments: tuple[str, ...] = ()
    exit_code: int = 3
    user: str = "postgres"


REFUSALS = [
    Refusal(
        "source table missing",
        ("ALTER TABLE enrichment_logs RENAME TO elsewhere",),
        "Table public.enrichment_logs is not there in database",
    ),
    Refusal(
        "migrated by something else",
        ("ALTER TABLE enrichment_logs RENAME TO llama_logs",),
        "but table public.llama_logs is",
    ),
    Refusal("both tables there", ("CREATE TABLE llama_logs ()",), "Both tables are there"),
    Refusal(
        "new name taken by a view",
        ("CREATE VIEW llama_logs AS SELECT 1 AS one",),
        "The new name public.llama_logs is taken by a view.",
    ),
    Refusal(
        "new name taken by an index",
        ('CREATE INDEX llama_logs ON "User" (id)',),
        "The new name public.llama_logs is taken by an index.",
    ),
    Refusal(
        "new name taken by a sequence",
        ("CREATE SEQUENCE llama_logs",),
        "The new name public.llama_logs is taken by a sequence.",
    ),
    Refusal(
        "new name taken by a type",
        ("CREATE TYPE llama_logs AS ENUM ('x')",),
        "The new name public.llama_logs is taken by a type.",
    ),
    Refusal(
        "index name taken",
        ('CREATE SEQUENCE "llama_logs_category_createdAt_idx"',),
        "llama_logs_category_createdAt_idx is taken by a sequence.",
    ),
    Refusal(
        "a dependent's new name taken",
        ("CREATE SEQUENCE llama_logs_pkey",),
        "would become 'llama_logs_pkey', but that name is taken by a sequence.",
    ),
    Refusal(
        "enum there with other labels",
        ("CREATE TYPE \"LlamaLogCategory\" AS ENUM ('CREATED', 'OTHER')",),
        "is there with labels CREATED, OTHER, and the spec says CREATED, ENRICHED",
    ),
    Refusal(
        "enum's name taken by a domain",
        ('CREATE DOMAIN "LlamaLogCategory" AS text',),
        "that name is taken by another kind of type",
    ),
    Refusal(
        "column there already",
        ("ALTER TABLE enrichment_logs ADD COLUMN category text",),
        "Column 'category' is there already",
    ),
    Refusal(
        "rule on a column that is not there",
        ("ALTER TABLE enrichment_logs RENAME COLUMN operation TO op",),
        "The rules look at column 'operation', which public.enrichment_logs does not have.",
    ),
    Refusal(
        "read-only server",
        (
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on',"
            " current_database()); END $$",
        ),
        "The server takes no writes",
    ),
    Refusal(
        "role without the rights",
        LIMITED,
        "Role 'limited' lacks ownership of public.enrichment_logs (owner: postgres).",
        user="limited",
    ),
    Refusal(
        "another plan than the approved one",
        (),
        f"The approved plan is {'0' * 64}, but this database and spec give plan ",
        ("--approved-plan", "0" * 64),
    ),
    Refusal(
        "more rows without a rule than expected",
        (),
        "266 rows match no rule and get CREATED; the spec expects at most 0.",
        ("--strict",),
    ),
]


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "runbook", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )


BY_COMMAND = {
    "source table missing",
    "role without the rights",
    "another plan than the approved one",
    "more rows without a rule than expected",
}
"""Tried by the command in every suite; the others there by the review, in the soak by both."""


OF_REVIEW = [one for one in REFUSALS if one.user == "postgres" and not one.arguments]


@pytest.mark.parametrize("refusal", OF_REVIEW, ids=lambda refusal: refusal.name)
def test_the_review_finds_it(refusal: Refusal, sample_newest: Database) -> None:
    sample_newest.execute(*refusal.sql)
    found = blockers(findings_of(sample_newest))
    assert found and refusal.message in found[0].message and found[0].remedy


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(one, id=one.name, marks=() if one.name in BY_COMMAND else pytest.mark.soak)
        for one in REFUSALS
    ],
)
def test_it_is_refused_before_anything_is_changed(
    refusal: Refusal, sample_newest: Database, tmp_path: Path
) -> None:
    sample_newest.execute("DROP ROLE IF EXISTS limited") if refusal.user == "limited" else None
    sample_newest.execute(*refusal.sql)
    with sample_newest.connect() as connection:
        before = database_state(connection)
        url = sample_newest.url.replace("postgres@", f"{refusal.user}@")
        ended = run("migrate", "--database-url", url, "--json", *refusal.arguments)
        assert database_state(connection) == before
        connection.execute("DROP OWNED BY limited") if refusal.user == "limited" else None
    assert ended.returncode == refusal.exit_code, ended.stderr
    said = json.loads(ended.stdout)
    assert refusal.message in said["message"]
    assert said["outcome"] == "refused" and said["remedy"]
    assert "Traceback" not in ended.stdout + ended.stderr
    bundle = Path(said["bundle"])
    assert bundle.parent == tmp_path / "reports" and bundle.name.endswith("-migrate-refused")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["outcome"], manifest["exit_code"]) == ("refused", refusal.exit_code)
    assert (bundle / "report.html").read_text().index("Refused: ") < 20_000


def test_another_run_at_work_is_refused(sample_newest: Database) -> None:
    with sample_newest.connect(application_name="other run") as other, other.transaction():
        key = "runbook/public.enrichment_logs"
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
        ended = run(
            "migrate", "--database-url", sample_newest.url, "--json", "--lock-timeout-ms", "200"
        )
    assert ended.returncode == 3
    said = json.loads(ended.stdout)
    assert "Another run is at work" in said["message"] and "other run" in said["message"]
    assert sample_newest.value("SELECT to_regclass('enrichment_logs') IS NOT NULL")


SPEC = """
name = "x"
table = "enrichment_logs"
[[operation]]
op = "classify"
column = "category"
type = "T"
otherwise = "A"
[[operation.rule]]
label = "B"
when = { column = "operation", equals = "x" }
"""

USAGE = [
    ("another engine", ["--database-url", "mysql://root@localhost/x"], {}, "is for mysql"),
    ("no scheme", ["--database-url", "localhost/x"], {}, "has no '://'"),
    ("no database", [], {}, "No database is named."),
    ("variable not set", ["--database-url", "env:NOWHERE"], {}, "'NOWHERE' that the database URL"),
    (
        "two @",
        ["--database-url", "postgresql://u:se@cret@localhost/x"],
        {},
        "more than one '@'",
    ),
    ("bad percent", ["--database-url", "postgresql://u:cret%zz@localhost/x"], {}, "be parsed"),
    ("unknown spec", ["--database-url", "env:U", "--spec", "nope"], {}, "no spec named 'nope'"),
    ("missing spec", ["--database-url", "env:U", "--spec", "no.toml"], {}, "no.toml is not there"),
    (
        "broken TOML",
        ["--database-url", "env:U", "--spec", "s.toml"],
        {"s.toml": "name = "},
        "is not valid TOML: Invalid value (at end of document)",
    ),
    (
        "label not in the enum",
        ["--database-url", "env:U", "--spec", "s.toml"],
        {
            "s.toml": SPEC.replace(
                "[[operation]]",
                '[[operation]]\nop = "create_enum"\nname = "T"\nlabels = ["A"]\n[[operation]]',
                1,
            )
        },
        "label 'B' is not in enum 'T', whose labels are A",
    ),
    (
        "duplicate label",
        ["--database-url", "env:U", "--spec", "s.toml"],
        {"s.toml": 'name="x"\ntable="t"\n[[operation]]\nop="create_enum"\nname="T"\n'
         'labels=["A","A"]'},
        "operation 1 (create_enum), labels: label 'A' stands there twice",
    ),
    ("unknown option", ["--database-urll", "x"], {}, "No such option"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "files", "message"), [u[1:] for u in USAGE],
                         ids=[u[0] for u in USAGE])  # fmt: skip
def test_wrong_usage_ends_with_2_and_one_sentence(
    arguments: list[str], files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ended = run("migrate", *arguments)
    assert ended.returncode == 2
    assert message in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr and "cret" not in ended.stderr
    assert not (tmp_path / "reports").exists()
