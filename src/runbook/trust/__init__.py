"""Trust: how the runbook talks to a database that others own, and what it believes of it.

`settings` and `session`: its own SQL searches no schema but PostgreSQL's own.
"""
