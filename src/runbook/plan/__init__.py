"""The plan: spec + catalog → the exact statements, and the hash that is approved."""

from runbook.plan.build import build_plan
from runbook.plan.facts import plan_facts
from runbook.plan.model import Options, Plan
from runbook.plan.remade import batches_of_newer_partitions, believed_plan
from runbook.plan.resume import resumed_plan
from runbook.plan.review import blockers, review

__all__ = [
    "Options",
    "Plan",
    "batches_of_newer_partitions",
    "believed_plan",
    "blockers",
    "build_plan",
    "plan_facts",
    "resumed_plan",
    "review",
]
