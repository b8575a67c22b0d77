"""The real Prisma on what the runbook leaves; `make prisma-check` sets it up."""
