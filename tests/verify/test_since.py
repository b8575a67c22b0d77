"""Rows written after the cutover are the application's: reported, and no fault of the run's."""

from pathlib import Path
from typing import Any

import pytest

from runbook.plan.script import script
from runbook.spec import Spec
from runbook.verify import Verified, verify
from tests.cases import CASES
from tests.conftest import Cluster, Database
from tests.migrating import catalog_of, migrate, migrate_online, plan_of
from tests.operations.test_specs import ONLY_RENAME, spec_of
from tests.plan.test_plan import psql

SPEC = CASES["classify first"].spec
WRONG = "UPDATE public.issues SET state_2 = 'unknown' WHERE id IN (1, 6)"
"""Both are open, by the rules."""


def verified(database: Database, spec: Spec = SPEC) -> Verified:
    """Ask the checks of an applied spec."""
    entry = catalog_of(database, spec).applied
    assert entry is not None
    with database.session() as connection:
        return verify(connection, spec, entry, allow_models=True)


def failed(found: Verified) -> list[str]:
    return [one.id for one in found.results if not one.passed]


def said(found: Verified) -> list[tuple[str, str]]:
    return [(one.code, one.message) for one in found.findings]


def made(cluster: Cluster, apply: Any = migrate, case: str = "classify first") -> Database:
    """Return a migrated database."""
    database = CASES[case].make(cluster)
    apply(database, SPEC)
    return database


@pytest.mark.parametrize("apply", [migrate, migrate_online])
def test_a_label_set_since_is_the_applications(apply: Any, newest: Cluster) -> None:
    database = made(newest, apply)
    assert said(verified(database)) == []
    # Rows of any age, and whatever is written through other columns alone.
    database.execute(
        WRONG,
        "UPDATE issues SET state = 'done' WHERE id = 11",
        "INSERT INTO issues (state, state_2) VALUES ('open', 'closed'), ('open', 'open')",
        "DELETE FROM issues WHERE id = 16",
        "UPDATE issues SET price = 1 WHERE id = 21",
    )
    found = verified(database)
    assert failed(found) == []
    assert said(found) == [
        (
            "changed-since",
            "4 rows have another label than the rules give (id = 1; id = 6; id = 11; id = 1001), "
            "written since the cutover.",
        )
    ]
    assert found.rows.differing == 4 and found.rows.since.total == 4
    newest.drop(database)


@pytest.mark.parametrize("apply", [migrate, migrate_online])
def test_what_the_run_itself_left_wrong_still_fails(apply: Any, newest: Cluster) -> None:
    database = CASES["classify first"].make(newest)
    apply(database, SPEC, records=[lambda run_id: WRONG])
    database.execute("UPDATE issues SET state_2 = 'unknown' WHERE id = 11")
    found = verified(database)
    assert failed(found) == ["distribution", "rules"]
    (rules,) = (one for one in found.results if one.id == "rules")
    assert rules.observed == 2 and "1 row has" in said(found)[0][1]
    database.execute("UPDATE issues SET state_2 = 'open' WHERE id IN (1, 6, 11)")
    assert failed(verified(database)) == []
    newest.drop(database)


@pytest.mark.parametrize("apply", [migrate, migrate_online])
def test_a_transaction_that_was_under_way_at_the_cutover_wrote_since(
    apply: Any, newest: Cluster
) -> None:
    database = CASES["classify first"].make(newest)
    with database.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE other ()")  # it has its number
        apply(database, SPEC)
        connection.execute(WRONG)
        connection.execute("COMMIT")
    found = verified(database)
    assert failed(found) == [] and found.rows.since.total == 2
    newest.drop(database)


def test_a_script_of_savepoints_left_its_rows_itself(newest: Cluster, tmp_path: Path) -> None:
    database = CASES["classify first"].make(newest)
    catalog = catalog_of(database, SPEC)
    assert catalog.table is not None
    text = script(SPEC, plan_of(database, SPEC), catalog.table)
    # As with ON_ERROR_ROLLBACK: every statement is a subtransaction.
    before, record, after = text.partition("-- Make the ledger")
    wrong = f"SAVEPOINT a;\nSAVEPOINT b;\n{WRONG};\nRELEASE a;\n"
    psql(database, f"{before}{wrong}{record}{after}", tmp_path)
    assert failed(verified(database)) == ["distribution", "rules"]
    newest.drop(database)


def test_partitions_that_came_since_are_the_applications(newest: Cluster) -> None:
    database = CASES["partitioned"].make(newest)
    migrate(database, SPEC)
    database.execute(
        "CREATE TABLE loaded (LIKE issues INCLUDING DEFAULTS)",
        "INSERT INTO loaded (id, state, state_2) VALUES (2000, 'open', 'closed')",
    )
    # As old as what the run left, and never in its table.
    database.execute(
        "UPDATE runbook.ledger SET plan = jsonb_set(plan, '{cutover,snapshot}',"
        " to_jsonb(pg_current_snapshot()::text))",
        "ALTER TABLE issues DETACH PARTITION tickets_1",
        "ALTER TABLE issues DETACH PARTITION tickets_rest",
        "ALTER TABLE issues ATTACH PARTITION loaded FOR VALUES FROM (2000) TO (3000)",
    )
    found = verified(database)
    assert [one for one in failed(found) if one in ("distribution", "rules")] == []
    assert found.rows.since.examples == ("id = 2000",)
    newest.drop(database)


def test_a_table_that_was_emptied_or_rewritten_since_passes(newest: Cluster) -> None:
    database = made(newest)
    database.execute(WRONG, "ALTER TABLE issues ALTER priority TYPE bigint")
    found = verified(database)
    assert failed(found) == [] and found.rows.since.total == 2
    database.execute("VACUUM (FULL, FREEZE) issues")
    assert failed(verified(database)) == []
    database.execute("TRUNCATE issues", "INSERT INTO issues (state, state_2) VALUES ('x', 'open')")
    found = verified(database)
    assert failed(found) == [] and found.rows.total == 1 and found.rows.since.total == 1
    newest.drop(database)


def test_a_row_that_the_run_left_and_vacuum_froze_is_still_the_runs(newest: Cluster) -> None:
    database = CASES["classify first"].make(newest)
    migrate(database, SPEC, records=[lambda run_id: WRONG])
    for vacuum in ("VACUUM (FREEZE) issues", "VACUUM (FULL, FREEZE) issues"):
        database.execute(vacuum)
        assert failed(verified(database)) == ["distribution", "rules"]
    newest.drop(database)


SNAPSHOT = "jsonb_set(plan, '{{cutover,snapshot}}', '\"{}\"')"
UNTOLD = {
    "another server's numbers": SNAPSHOT.format("4000000000:4000000000:"),
    "too many transactions": SNAPSHOT.format("-3000000000:-3000000000:"),
    "recorded by an earlier version": "plan - 'cutover'",
}


def test_where_it_cannot_be_told_every_row_is_judged_and_why_is_said(newest: Cluster) -> None:
    database = made(newest)
    database.execute(WRONG)
    for name, plan in UNTOLD.items():
        database.execute(f"UPDATE runbook.ledger SET plan = {plan}")
        found = verified(database)
        assert failed(found) == ["distribution", "rules"], name
        assert "cannot be told" in found.rows.since.untold, name
    newest.drop(database)


def test_a_ledger_of_an_earlier_version_goes_on(newest: Cluster) -> None:
    """By whoever may write it, its owner or not: no column is added."""
    database = made(newest)
    database.execute("UPDATE runbook.ledger SET plan = plan - 'cutover' - 'home'")
    assert failed(verified(database)) == []
    database.execute("CREATE TABLE tickets (id int PRIMARY KEY)", "INSERT INTO tickets VALUES (1)")
    migrate(database, spec_of(ONLY_RENAME.replace('to = "issues"', 'to = "others"')))
    assert database.value("SELECT count(*) FROM runbook.ledger WHERE plan ? 'cutover'") == 1
    newest.drop(database)


def test_a_table_that_kept_its_name_is_looked_at_though_its_rules_do_not_fit(
    newest: Cluster,
) -> None:
    spec = CASES["without rename"].spec
    database = CASES["without rename"].make(newest)
    migrate(database, spec)
    database.execute("ALTER TABLE tickets ALTER state TYPE integer USING 1")
    found = verified(database, spec)
    assert failed(found) == [] and [one.code for one in found.findings] == ["not-asked"] * 2
    newest.drop(database)


GONE = {
    "dropped": ("ALTER TABLE issues DROP COLUMN state", "column state, which the rules read, is"),
    "renamed": (
        "ALTER TABLE issues RENAME state TO status",
        "column state, which the rules read, is gone since, or has another name",
    ),
    "another type": (
        "ALTER TABLE issues ALTER state TYPE integer USING 1",
        "the rules do not fit the columns as they are now (error 22P02",
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_rules_whose_columns_are_others_now_are_not_asked_and_the_rest_is(
    name: str, newest: Cluster
) -> None:
    database = made(newest)
    before = {one.id for one in verified(database).results}
    change, why = GONE[name]
    database.execute(change)
    found = verified(database)
    assert failed(found) == []
    assert [(one.code, one.object) for one in found.findings] == [
        ("not-asked", "distribution"),
        ("not-asked", "rules"),
    ]
    assert all(why in one.message for one in found.findings), said(found)
    assert {one.id for one in found.results} == before - {"distribution", "rules"}
    # A label that is missing is still found.
    database.execute(
        "ALTER TABLE issues ALTER state_2 DROP NOT NULL",
        "UPDATE issues SET state_2 = NULL WHERE id = 1",
    )
    assert failed(verified(database)) == ["complete", "column"]
    newest.drop(database)
