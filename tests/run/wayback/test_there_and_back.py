"""There and back: the database is as it was, and the migration can be applied again."""

import re
from dataclasses import replace
from typing import Any

import pytest

from runbook.errors import RefusedError
from runbook.plan import build_plan
from runbook.spec import load_spec
from tests.cases import CASES, RENAMED
from tests.conftest import MAJORS, Cluster, Database, cluster_of
from tests.migrating import ATOMIC, ONLINE, catalog_of, check, migrate, migrate_online
from tests.operations.test_specs import TICKETS, spec_of
from tests.run.wayback.rolling_back import hand_set_of, refusals, roll_back
from tests.state import logical_state

SAME = "every row is as it was before the migration"

STRANGE = '日本 "t" ' + "x" * 52
"""63 bytes, with a quote, spaces and characters of three bytes."""


def apply(way: str, database: Database, spec: Any, *, view: bool = False) -> None:
    catalog = catalog_of(database, spec)
    options = replace({"atomic": ATOMIC, "online": ONLINE}[way], old_name_view=view)
    run: Any = {"atomic": migrate, "online": migrate_online}[way]
    assert run(database, spec, catalog=catalog, plan=build_plan(spec, catalog, options))


def there_and_back(way: str, database: Database, spec: Any, *, view: bool) -> Any:
    apply(way, database, spec, view=view)
    back = roll_back(database, spec)
    assert back.rows.passed and back.undone.discarded == 0
    assert back.undone.counted_under_lock == (spec.classify is not None)
    assert (back.rows.verdict == SAME) == (way == "atomic" or spec.classify is not None)
    assert back.catalog.wrong == back.catalog.new == ()
    return logical_state(database)


@pytest.mark.parametrize("way", ["atomic", "online"])
@pytest.mark.parametrize("major", MAJORS)
def test_the_shipped_migration_there_and_back_twice(
    major: int, way: str, clusters: dict[int, Cluster]
) -> None:
    cluster = cluster_of(clusters, major)
    database, spec = cluster.sample(), load_spec("llamalog")
    before = logical_state(database)
    for view in (True, False):
        assert there_and_back(way, database, spec, view=view) == before
    assert database.value("SELECT count(*) FROM runbook.ledger") == 2
    assert database.value("SELECT count(*) FROM runbook.rollback") == 2
    assert catalog_of(database, spec).applied is None
    cluster.drop(database)


def test_once_more_after_two_rollbacks(sample: Database) -> None:
    for way in ("atomic", "online"):
        apply(way, sample, load_spec("llamalog"))
        roll_back(sample)
    apply("atomic", sample, load_spec("llamalog"))
    assert [one.id for one in check(sample).values() if not one.passed] == []


@pytest.mark.parametrize("way", ["atomic", "online"])
def test_names_of_any_kind(way: str, cluster: Cluster) -> None:
    database = cluster.make()
    assert len(STRANGE.encode()) == 63
    quoted = STRANGE.replace('"', '""')
    database.execute(*(one.replace("tickets", f'"{quoted}"') for one in TICKETS))
    escaped = STRANGE.replace('"', '\\"')
    text = RENAMED.replace('table = "tickets"', f'table = "{escaped}"')
    spec = spec_of(
        text.replace('"issues"', '"Issues % $1 {x}"').replace('"state_2"', '"Zu; stand\'\\"s"')
    )
    before = logical_state(database)
    assert there_and_back(way, database, spec, view=True) == before
    cluster.drop(database)


def test_with_another_text_of_the_spec_somebody_must_vouch_for_the_plan(sample: Database) -> None:
    before = logical_state(sample)
    migrate(sample)
    spec = load_spec("llamalog")
    changed = spec.model_copy(update={"operations": spec.operations[:1], "models": None})
    with pytest.raises(RefusedError, match="the spec's text is another one"):
        roll_back(sample, changed)
    assert roll_back(sample, changed, vouched=lambda sha256: True).rows.verdict == SAME
    assert logical_state(sample) == before


def test_a_view_that_was_contracted_before_is_no_hindrance(sample: Database) -> None:
    before = logical_state(sample)
    apply("atomic", sample, load_spec("llamalog"), view=True)
    sample.execute("DROP VIEW enrichment_logs")
    assert roll_back(sample).rows.passed
    assert logical_state(sample) == before


def test_what_came_since_and_stands_alone_is_left_alone(sample: Database) -> None:
    migrate(sample)
    sample.execute(
        "ALTER TABLE llama_logs ADD COLUMN more integer",
        "CREATE INDEX more_idx ON llama_logs (more)",
        "CREATE VIEW whole AS SELECT id, operation FROM llama_logs",
    )
    back = roll_back(sample)
    assert back.rows.verdict == SAME and back.catalog.wrong == ()
    assert sorted(back.catalog.new) == [
        "table.columns.more is new",
        "table.indexes.more_idx is new",
    ]
    assert sample.value("SELECT count(*) FROM whole") == 4052


def test_what_is_gone_or_altered_since_is_told(sample: Database) -> None:
    migrate(sample)
    sample.execute(
        "ALTER TABLE llama_logs ALTER retry_count SET DEFAULT 1",
        "ALTER TABLE llama_logs ALTER reason TYPE varchar(1000)",
    )
    wrong = roll_back(sample).catalog.wrong
    assert [one for one in wrong if "retry_count" in one] != []
    assert [one for one in wrong if "reason" in one and "varying(1000)" in one] != []


def test_a_column_of_the_rules_that_was_dropped_since_has_a_way_out(cluster: Cluster) -> None:
    case = CASES["classify first"]
    database = case.make(cluster)
    migrate(database, case.spec)
    database.execute("ALTER TABLE issues DROP COLUMN state")
    (found,) = refusals(database, case.spec)
    assert found.code == "gone"
    (add,) = re.findall(r'ALTER TABLE "public"."issues" ADD COLUMN [^;]+', found.remedy)
    database.execute(add)  # as it says, by the letter
    assert refusals(database, case.spec) == () and hand_set_of(database, case.spec).rows == 800
    back = roll_back(database, case.spec, discard=True)
    assert back.rows.verdict.startswith("rows were written since the migration")
    assert database.value("SELECT count(*) FROM tickets") == 1000
    cluster.drop(database)


def test_the_rows_of_the_ledger_are_never_changed(sample: Database) -> None:
    migrate(sample)
    before = sample.value("SELECT md5(string_agg(l::text, '')) FROM runbook.ledger l")
    run_id = roll_back(sample).undone.run_id
    assert sample.value("SELECT md5(string_agg(l::text, '')) FROM runbook.ledger l") == before
    recorded = "SELECT ARRAY[run_id::text, rolled_back_by, rows::text] FROM runbook.rollback"
    assert sample.value(recorded) == [run_id, "postgres", "4052"]
