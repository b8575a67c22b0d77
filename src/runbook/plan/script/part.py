"""A part of a script: one statement, and what is said of it in comments."""

from dataclasses import dataclass

from runbook.sql import PLACEHOLDER
from runbook.visible import visible
from runbook.vocabulary import Statement


@dataclass(frozen=True, kw_only=True)
class Part:
    """One statement of a script, without the semicolon that ends it."""

    sql: str
    comments: tuple[str, ...] = ()
    """What it does, its lock, its undo: a line each."""

    def __str__(self) -> str:
        """Return it as a script has it, comments first."""
        # A name may hold a line break, and what follows it must not leave the comment.
        lines = [f"-- {in_a_line(comment)}" for comment in self.comments]
        return "\n".join([*lines, f"{self.sql};"])


def part(statement: Statement, prefix: str = "") -> Part:
    """Return a statement of the plan, with a comment on what it does, its lock and its undo."""
    comments = [f"{statement.title} [{statement.phase}, lock: {statement.lock}]"]
    comments += [f"undo: {statement.undo}"] if statement.undo else []
    return Part(sql=prefix + statement.sql, comments=tuple(comments))


def in_a_line(text: str) -> str:
    """Return a text without its line breaks, its control characters by their numbers, and without
    a placeholder, which Flyway fills in comments, too."""
    return visible(" ".join(text.split())).replace(PLACEHOLDER, "$ {")
