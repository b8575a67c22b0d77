"""The plan: exact ordered statements, why they are these, and the hash that a person approves."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal, Self

from runbook.vocabulary import Phase, Statement

Mode = Literal["auto", "atomic", "online"]

HASH_FORMAT = 1
"""Part of what is hashed; raised whenever the same plan would hash differently."""

UNHASHED = ("title", "row_us")
"""What is said about a statement, and changes nothing that it does."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may choose about a run."""

    mode: Mode = "auto"
    lock_timeout_ms: int = 100
    """How long a try may wait for a lock: while it waits, the application waits behind it."""
    lock_budget_ms: int = 1_000
    """How long a lock may block the application, as estimated, before `auto` goes online."""
    old_name_view: bool = False
    """Whether a view stays under the old name, for an application that knows no other."""
    proof: Literal["spec", "hash", "sha256"] = "spec"
    """How the data is proved: as the spec says, by hashes of 128 bits, or by SHA-256."""
    trust_owner_code: bool = False
    """Whether code of less privileged roles may run with the connected role's rights."""
    statement_timeout_ms: int = 3_600_000
    """How long one statement may take; 0 is no limit."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan for one database.

    Two databases with the same facts have the same plan and hash, as long as their rows lead to the
    same choice of the default label, between update and rewrite (`reasons`), and between counting
    by row and by group.
    """

    migration: str
    mode: Mode
    schema: str
    table_before: str
    table_after: str
    statements: tuple[Statement, ...]
    reasons: tuple[str, ...]
    predicted: Mapping[str, int]
    estimated_lock_ms: float
    """How long the strongest lock is likely to be held."""
    estimated_ms: float
    """How long all of it is likely to take."""
    facts: Mapping[str, Any]
    """The catalog facts that the statements rest on."""
    extended: Mapping[str, tuple[str, ...]]
    """Existing enum types that get further labels: name → all that they will have."""
    adds: Mapping[str, tuple[str, ...]]
    """What the catalog shows of an online plan before its cutover: fact → names."""
    spec_sha256: str
    ledger_schema: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What else it was made from, for who makes it again; the hash does not cover it."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return the plan that was recorded as plain data (`asdict`); what the ledger keeps beside
        it is left out."""
        content = {one.name: content[one.name] for one in fields(cls) if one.name in content}
        statements = tuple(Statement.of(one) for one in content["statements"])
        lists = {
            name: {key: tuple(items) for key, items in content[name].items()}
            for name in ("extended", "adds")
        }
        reasons = tuple(content["reasons"])
        return cls(**{**content, **lists, "statements": statements, "reasons": reasons})

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 over every statement and the facts they rest on; not over any count."""
        return sha256_of(asdict(self))

    def of_phase(self, phase: Phase) -> tuple[Statement, ...]:
        """Return the statements of one phase, in order."""
        return tuple(statement for statement in self.statements if statement.phase is phase)


def sha256_of(plan: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a plan as plain data, which may be one that was recorded long ago."""
    named = ("migration", "mode", "spec_sha256", "ledger_schema", "facts")
    content = {
        "format": HASH_FORMAT,
        **{name: plan[name] for name in named},
        "statements": [
            {key: val for key, val in statement.items() if key not in UNHASHED}
            for statement in plan["statements"]
        ],
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(content: object) -> str:
    """Return JSON that is the same for the same content on every machine."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def hashed(fact: object) -> Any:
    """Return a fact as plain data, without the fields that the hash does not cover."""
    if is_dataclass(fact):
        return {
            one.name: hashed(getattr(fact, one.name))
            for one in fields(fact)
            if one.metadata.get("hashed", True)
        }
    if isinstance(fact, Mapping):
        return {key: hashed(val) for key, val in fact.items()}
    if isinstance(fact, tuple):
        return [hashed(item) for item in fact]
    return fact
