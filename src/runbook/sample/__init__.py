"""The sample database: the music application as it was before EnrichmentLog became LlamaLog.

`load_sample` makes the 4,052-row sample. A bench makes any number of rows of the same kind:
`create_schema(connection, indexes=False)`, `load_rows(connection, scaled(1_000_000))`,
`create_indexes(connection)`.
"""

from runbook.sample.counts import EVEN_SHARES, SAMPLE, scaled
from runbook.sample.load import create_indexes, create_schema, load_rows, load_sample

__all__ = [
    "EVEN_SHARES",
    "SAMPLE",
    "create_indexes",
    "create_schema",
    "load_rows",
    "load_sample",
    "scaled",
]
