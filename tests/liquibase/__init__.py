"""The real Liquibase on the changelog; `make liquibase-check` sets it up."""
