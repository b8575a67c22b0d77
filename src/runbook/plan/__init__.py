"""The plan: spec + catalog → the exact statements, and the hash that is approved."""

from runbook.plan.build import build_plan
from runbook.plan.facts import plan_facts
from runbook.plan.model import Options, Plan
from runbook.plan.remade import believed_plan
from runbook.plan.resume import resumed_plan
from runbook.plan.review import blockers, review

__all__ = [
    "Options",
    "Plan",
    "believed_plan",
    "blockers",
    "build_plan",
    "plan_facts",
    "resumed_plan",
    "review",
]
