"""Trust: how the runbook talks to a database that others own, and what it believes of it.

- `session`, `settings`: every session and transaction of its own searches no schema but
  PostgreSQL's, whatever the role's or the database's owner has set.
- `roles`: whose code gains nothing where it runs with the connected role's rights.
- `owner_code`: the code of all others on a table, found before it could run, and kept from coming
  while rows are read or written.
- `ledger`: that the ledger belongs to somebody who is trusted, and carries nothing foreign. What
  its plans say is data: `runbook.plan.remade`.
- `given_query`: what a query reads that somebody wrote into a file.
- `preflight`: both at once, for what changes something.

docs/security.md says it for people, with what was tried; tests/trust holds each of it.
"""
