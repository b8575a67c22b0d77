"""The DAG of the documentation, run by the real Airflow."""
