"""Specs: what a migration shall do, as data."""

from runbook.spec.load import load_spec, parse_spec, shipped_specs, split_reference
from runbook.spec.model import Models, Spec

__all__ = ["Models", "Spec", "load_spec", "parse_spec", "shipped_specs", "split_reference"]
