"""EnrichmentLog → LlamaLog as an Airflow DAG: a review, and a migration of the plan that was approved.

Trigger it with the hash that a person approved: {"approved_plan": "…"}. The database URL is in the
worker's environment; parameters, which Airflow keeps in its own database, hold a reference to it.
"""

import os
from pathlib import Path

import runbook
from airflow.providers.papermill.operators.papermill import PapermillOperator
from airflow.sdk import DAG, Param

NOTEBOOKS = Path(runbook.__file__).with_name("notebooks")
REPORTS = os.environ.get("RUNBOOK_REPORTS", "/var/lib/runbook/reports")
COMMON = {"database_url": "env:DATABASE_URL", "spec": "llamalog", "reports": REPORTS}

with DAG(
    dag_id="runbook_llamalog",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params={"approved_plan": Param("", type="string", description="The hash of a review")},
    # A run that was stopped is gone on with by the next one, and one that failed was rolled back:
    # a person decides, so nothing is tried again by itself.
    default_args={"retries": 0},
):
    review = PapermillOperator(
        task_id="review",
        input_nb=str(NOTEBOOKS / "01_review.ipynb"),
        output_nb=os.devnull,
        parameters=COMMON,
    )
    migrate = PapermillOperator(
        task_id="migrate",
        input_nb=str(NOTEBOOKS / "02_migrate.ipynb"),
        output_nb=os.devnull,
        parameters={**COMMON, "approved_plan": "{{ params.approved_plan }}"},
    )
    verify = PapermillOperator(
        task_id="verify",
        input_nb=str(NOTEBOOKS / "03_verify.ipynb"),
        output_nb=os.devnull,
        parameters=COMMON,
    )
    review >> migrate >> verify
