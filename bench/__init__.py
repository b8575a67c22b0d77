"""The benchmark: the runbook against the plan's own SQL, and against a bare notebook."""
