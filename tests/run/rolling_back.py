"""Taking a finished run back. To be replaced by the product's own rollback in this one place."""

from runbook.plan import Plan
from tests.conftest import Database


def take_back(database: Database, plan: Plan) -> None:
    """Run what takes each change of an atomic plan back, the last one first, in one transaction.

    An online run that is finished has left the same behind as the atomic one.
    """
    undone = [one.undo for one in reversed(plan.statements) if one.undo]
    with database.connect() as connection, connection.transaction():
        for statement in undone:
            connection.execute(statement.encode())
