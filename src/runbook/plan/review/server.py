"""What the server, the way to it, its settings and its replicas say about a run."""

from collections.abc import Iterator

from runbook.facts import OLDEST, Catalog, Surroundings
from runbook.numbers import size
from runbook.operations.base import blocker, note, warning
from runbook.plan.model import Mode
from runbook.vocabulary import Finding

WRAPAROUND_WARNING, WRAPAROUND_STOP = 1_000_000_000, 2_000_000_000
"""Ages of the database's oldest row, in transactions: of 2,147,483,648 the server stops 3,000,000
before the end (docs, 24.1.5); vacuum drops all brakes at 1,600,000,000 (vacuum_failsafe_age)."""

REPLICA_LATE_S, REPLICA_LATE_BYTES = 10.0, 1 << 30
"""Beyond which a replica counts as late; an online run waits for one later than --max-lag-ms."""


def server_findings(catalog: Catalog) -> Iterator[Finding]:
    """Yield whether it can be written to at all."""
    server = catalog.server
    if server.is_too_old:
        yield blocker(
            "server-too-old",
            server.name,
            f"The server is PostgreSQL {server.server_version}, and {OLDEST // 10_000} is the "
            "oldest that is supported.",
            "Upgrade the server first.",
        )
    if server.read_only:
        yield blocker(
            "read-only-server",
            server.name,
            "The server takes no writes: it is a replica, or sessions are read-only by default.",
            "Connect to the primary, or clear default_transaction_read_only for this role.",
        )


def connection_findings(catalog: Catalog, mode: Mode) -> Iterator[Finding]:
    """Yield what is between, and what the role does not see."""
    if catalog.pooler:
        yield (blocker if mode == "online" else warning)(
            "pooler",
            catalog.server.name,
            f"The connection goes through a pooler in {catalog.pooler} mode: the server's session "
            "is not the connection's own.",
            "Connect to the server directly"
            + (": the online mode refuses a pooler." if mode == "online" else "."),
        )
    if not catalog.server.sees_others:
        role = catalog.server.user
        yield (warning if mode == "online" else note)(
            "sessions-hidden",
            role,
            f"Role {role!r} does not see the sessions of other roles, nor how late replicas are.",
            "The run cannot pause for them, and names whoever is in its way by pid alone: grant it "
            "pg_monitor (or pg_read_all_stats).",
        )


def replication_findings(catalog: Catalog, around: Surroundings) -> Iterator[Finding]:
    """Yield what speaks of replicas and their slots, and of the server's age."""
    yield from _age_findings(catalog, around)
    for replica in around.replicas:
        late_s, late_bytes = replica.lag_s or 0.0, replica.lag_bytes or 0
        if late_s > REPLICA_LATE_S or late_bytes > REPLICA_LATE_BYTES:
            yield warning(
                "replica-late",
                replica.name,
                f"Replica {replica.name!r} is late by {late_s:,.0f} s and "
                f"{size(late_bytes)} of WAL.",
                "Find out why before the migration adds to it; online, the run waits for replicas "
                "(--max-lag-ms).",
            )
    if around.replicas:
        names = ", ".join(repr(one.name) for one in around.replicas)
        yield note(
            "replica-conflicts",
            catalog.server.name,
            f"{names} will replay the ACCESS EXCLUSIVE lock, and cancel queries there that read "
            "the table for longer than max_standby_streaming_delay (30 s by default).",
            "Expect it, or move long queries away from the replica for the time of the lock.",
        )
    visible = catalog.server.sees_others and not catalog.server.read_only
    if around.waits_for_replicas and visible and not any(r.is_synchronous for r in around.replicas):
        yield blocker(
            "no-synchronous-standby",
            catalog.server.name,
            "synchronous_standby_names is set, and no synchronous standby is connected: every "
            "commit waits.",
            "Bring a standby back, or clear synchronous_standby_names.",
        )
    for slot in around.slots:
        if not slot.active or slot.wal_status in {"unreserved", "lost"}:
            yield warning(
                "slot-inactive",
                slot.name,
                f"Replication slot {slot.name!r} is "
                + ("inactive" if not slot.active else f"{slot.wal_status}")
                + f", and keeps {size(slot.retained_bytes or 0)} of WAL.",
                "Bring its consumer back, or drop it (pg_drop_replication_slot) if nobody needs "
                "it any more.",
            )
    if around.timeouts:
        given = ", ".join(f"{name} = {ms:,} ms" for name, ms in sorted(around.timeouts.items()))
        yield note(
            "role-timeout",
            catalog.server.user,
            f"Server, database or role give every session {given}.",
            "Nothing is to be done for the run, which sets limits of its own; sessions opened by "
            "hand to look after it have these.",
        )


def _age_findings(catalog: Catalog, around: Surroundings) -> Iterator[Finding]:
    """Yield how near the end of transaction numbers is."""
    age = around.ages.database
    if age >= WRAPAROUND_WARNING:
        yield (blocker if age >= WRAPAROUND_STOP else warning)(
            "wraparound-near",
            catalog.server.name,
            f"The oldest row of database {catalog.server.name!r} is {age:,} transactions old, of "
            "2,147 million.",
            "Have a VACUUM FREEZE of the oldest tables finish first, and find what held it back: "
            "an old transaction, a prepared one, or a slot.",
        )
