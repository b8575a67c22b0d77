"""The fingerprint of a row: a 64-bit hash over all columns that existed before.

`hash_record_extended` combines the hashes of the columns linearly (31 × so far + next), so a plain
sum over the rows falls apart into one sum for each column, and two rows that swap a value go
unnoticed. Its result is therefore hashed once more.

Columns of types whose equality is weaker than identity (numeric 1.0 = 1.00), or that have no hash
function, are hashed as text.
"""

from runbook import sql
from runbook.facts import Column, Table

ROW_HASH = (
    "hash_numeric_extended(hash_record_extended(all columns that existed before)), 64 bits a row"
)


def row_hash(table: Table, alias: str | None = None) -> sql.Composable:
    """Return the hash of a row of the table, which may go by an alias."""
    prefix = (alias,) if alias else ()
    return sql.compose(
        "hash_numeric_extended(\n        hash_record_extended(ROW({columns}), 0)::numeric, 0)",
        columns=sql.join(
            ", ", (_exact(column, sql.name(*prefix, column.name)) for column in table.columns)
        ),
    )


def _exact(column: Column, reference: sql.Composable) -> sql.Composable:
    """Return a column in a form whose hash tells any two stored values apart."""
    if column.exact_hash and column.type.endswith("[]"):
        # An array's own hash leaves out its bounds.
        return sql.compose(
            "{column}, CASE WHEN array_ndims({column}) <> 1 OR array_lower({column}, 1) <> 1 "
            "THEN array_dims({column}) END",
            column=reference,
        )
    if column.exact_hash:
        return reference
    if column.type.startswith(("character(", "bpchar")):
        # Its cast to text strips trailing blanks.
        return sql.compose('textin(bpcharout({column})) COLLATE "C"', column=reference)
    return sql.compose('{column}::text COLLATE "C"', column=reference)
