"""The report: what a person sees. Only here are pandas and matplotlib loaded."""
