"""Every finding by its code, and why it matters: the list that docs/findings.md explains.

A finding's code is what a person searches for and a script compares: once published, it stays.
"""

from collections.abc import Mapping

WHY: Mapping[str, str] = {
    "server-too-old": "The SQL of the plan is tested on this version and newer only.",
    "read-only-server": (
        "A replica takes every change from its primary, and none from anybody else."
    ),
    "table-missing": "There is nothing to migrate; most often the URL names another database.",
    "table-kind": "A view or a foreign table has no rows of its own to lock, prove and index.",
    "table-empty": "An empty table in production is rare: this may be the wrong database.",
    "inheritance": (
        "What is done to a table reaches the rows of its children, and a child follows its parent."
    ),
    "partition-kind": (
        "The rows of such a partition are elsewhere, where no lock and no proof reaches."
    ),
    "run-left-behind": (
        "The triggers of an online run label every row that is written, and nobody ends them."
    ),
    "rewrite-rule": (
        "A rule replaces a statement by another, so what was reviewed is not what runs."
    ),
    "no-replica-identity": (
        "PostgreSQL refuses to update a published row that subscribers could not find."
    ),
    "published-in-part": "PostgreSQL refuses to update rows of such a publication.",
    "published": (
        "A subscriber that lacks the new column or name stops applying changes, and its slot "
        "keeps the WAL until the disk is full."
    ),
    "row-security": "Rows that a policy hides would neither be classified nor proved.",
    "unlogged": "A crash of the server empties it, and no replica has its rows.",
    "index-invalid": (
        "An invalid index costs every write and serves no query; most often a build failed and "
        "nobody saw it."
    ),
    "deferred-triggers": (
        "A trigger still pending at the end of a transaction would refuse the ALTER TABLE in it "
        "(error 55006)."
    ),
    "privilege-missing": "The run would fail midway where the right is first needed.",
    "ledger-foreign": (
        "Whoever owns the ledger, or has code on it, decides what the runbook believes of this "
        "database, and may have it do things with its rights."
    ),
    "ledger-unproved": (
        "Whoever may write the ledger can write of a run that never was, or another hash of the "
        "rows than the run took."
    ),
    "models-not-allowed": (
        "A spec may come from anybody, a pull request for one; a module that is imported runs with "
        "all that the person who reviews it may do."
    ),
    "owner-code": (
        "PostgreSQL runs triggers, constraints and expressions with the rights of whoever touches "
        "the table: their owner could do what only the connected role may."
    ),
    "owner-code-trusted": (
        "What it did with these rights beyond the table is seen by nobody, this report included."
    ),
    "name-taken": "PostgreSQL refuses a second object of that name, in the middle of the run.",
    "both-tables": (
        "It cannot be told which of the two the application uses, and rows may be in both."
    ),
    "dependent-name-taken": "The table would be renamed, and that object could not follow.",
    "name-cut": (
        "PostgreSQL keeps 63 bytes of a name; a tool that derives the name itself may cut it "
        "elsewhere and see a difference."
    ),
    "index-name": (
        "A tool that derives index names takes one of another name for missing and this one for "
        "unknown, and offers to change both."
    ),
    "column-exists": "The column's present values would be lost or mixed with the new ones.",
    "column-missing": "The rules or the index cannot be evaluated without it.",
    "enum-missing": "A column needs its type before it can be.",
    "enum-differs": (
        "Labels cannot be taken away or reordered, so the type would never be what the spec says."
    ),
    "enum-extended": (
        "A new label of an existing type must be committed before it can be used (error 55P04)."
    ),
    "enum-reused": "The type belongs to others, too: a rollback leaves it where it is.",
    "label-missing": "The first row with that label would end the run.",
    "value-unknown": (
        "A column of an enum type never holds what is no label of it, so the rule takes nothing."
    ),
    "update-trigger": (
        "It runs for every row that is updated, and may change what the proof compares."
    ),
    "trigger-fires-later": "It could change a row after it was classified.",
    "rule-on-generated-column": "New rows would be classified by a value that is not there yet.",
    "constraint-not-valid": "A row that violates it cannot be updated, and would end the run.",
    "typed-table": "PostgreSQL adds no column to a table whose columns are a type's.",
    "row-type-used": "PostgreSQL refuses to alter a table whose row type is a column elsewhere.",
    "no-operator-class": "PostgreSQL has no way to index that type so.",
    "index-impossible": "PostgreSQL makes no such index, and says so in the middle of the run.",
    "duplicate-keys": "A unique index fails at the second row of the same key (error 23505).",
    "index-row-too-large": (
        "An index fails at the first entry that fits into no page (error 54000)."
    ),
    "too-many-columns": "PostgreSQL would refuse the new column (error 54011).",
    "sub-partitions": "An index of such a tree cannot be attached step by step.",
    "view-not-for-columns": (
        "Under the old name those roles lose what they may do under the new one."
    ),
    "rule-takes-nothing": (
        "A rule without rows is often misspelt, or stands behind one that takes its rows."
    ),
    "otherwise-exceeded": "Rows that nobody thought of get a label that nobody chose.",
    "rule-column-null": "No comparison is true of NULL: such rows fall through to the last rule.",
    "function-names-table": (
        "A function's text is read anew at each call: under its old name the table is not found."
    ),
    "trigger-names-table": (
        "It runs at every write to the table, and from the rename on every one of them would fail."
    ),
    "views-lack-column": "A view has the columns that it was made with, `SELECT *` or not.",
    "subscribed": (
        "Changes arrive under the old name and without a label; the subscription stops at the "
        "first one."
    ),
    "event-trigger": (
        "It runs for the plan's DDL, and may refuse it, change it or take its time under the lock."
    ),
    "extension-member": (
        "An update of the extension would undo or trip over the change, and pg_dump leaves the "
        "table out."
    ),
    "column-grants": "A right on columns does not extend to a column that is added.",
    "statements-in-use": "What calls the table by its old name fails from the rename on.",
    "names-kept": (
        "Nothing breaks, but a name that speaks of a table that is gone misleads whoever reads it."
    ),
    "sessions-hidden": "Who is in the way, and how late replicas are, cannot be seen.",
    "old-transaction": (
        "A lock waits for it, every query behind that lock waits too, and a concurrent index "
        "build waits for it whatever it touched."
    ),
    "idle-in-transaction": (
        "Nobody knows when it will end: its client may be gone, or somebody's editor."
    ),
    "prepared-transaction": (
        "It keeps its locks across restarts, and nobody is there who would end it."
    ),
    "freeze-due": "A vacuum against wraparound gives way to no lock, and may take hours.",
    "wraparound-near": "The server stops taking writes when transaction numbers run out.",
    "replica-late": (
        "What the migration writes comes on top; readers of the replica see older rows meanwhile."
    ),
    "replica-conflicts": (
        "A replica replays the lock, and cancels or delays the queries that read the table there."
    ),
    "no-synchronous-standby": (
        "Every commit waits for a standby that is not there, the migration's too."
    ),
    "slot-inactive": (
        "All WAL from its position on is kept, the migration's too, until the disk is full."
    ),
    "role-timeout": (
        "What is set for the role ends sessions by a rule that has nothing to do with the "
        "migration."
    ),
    "pooler": (
        "Locks, settings and the way a stopped run is recognised belong to sessions of the "
        "server, which a pooler shares out."
    ),
    "disk-short": "A full disk stops the whole server, not only the migration.",
    "disk-unknown": "A full disk stops the whole server, and only its host knows what is free.",
    "lock-over-budget": "The application waits for as long as the lock is held.",
    "lint-unanswered": "A linter knows something of a statement that this project has not judged.",
    "spec-changed": "The checks ask for what another spec says than the one that was run.",
    "categories-set-by-hand": (
        "A rollback drops the column, and with it what no rule can tell again."
    ),
    "gone": (
        "What the run made was changed or removed since: there is nothing to take back, or "
        "something else."
    ),
    "in-use": "Something built since depends on what would be dropped.",
    "model-drift": (
        "The application's models would not fit the migrated table either, for another reason."
    ),
    "changed-since": (
        "What the application writes after the cutover is its own: the run answers for the rows as "
        "it left them."
    ),
    "not-asked": "What a check reads was changed since the run, so it has no answer any more.",
    "tool-history": (
        "A tool that does not know that the migration was run may run it again, or see a "
        "difference that it wants to take back."
    ),
    "labels-stay": "PostgreSQL cannot take a label away from a type.",
    "later-run": "A later run rests on this one, and has to be taken back before it.",
    "table-differs": "The table is not the one that the run left.",
    "rules-fail": (
        "Rows set by hand cannot be told from the others where the rules cannot be evaluated."
    ),
}
