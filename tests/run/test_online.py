"""The online run: the same end state, with short locks."""

from tests.conftest import Cluster, Database
from tests.migrating import check, migrate, migrate_online
from tests.run.test_atomic import CATEGORIES
from runbook.run.online import Journal


def test_every_row_is_kept_and_classified(sample: Database) -> None:
    journal = Journal()
    applied = migrate_online(sample, journal=journal, tell=print)
    print(journal.content())
    for e in journal.executed:
        print(e.phase, e.title, e.waited_ms, e.held_ms, e.duration_ms, e.rows)
    assert applied.proof.passed
    assert applied.rows == 4052
    counted = sample.value(
        "SELECT jsonb_object_agg(category, n) FROM"
        " (SELECT category, count(*) AS n FROM llama_logs GROUP BY 1) AS c"
    )
    assert counted == CATEGORIES
    assert [r for r in check(sample).values() if not r.passed] == []
