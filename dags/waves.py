"""The Airflow DAGs of every wave of every plan; see `mtv.orchestration.loader`."""

from mtv.orchestration.loader import load_dags

for dag in load_dags():
    globals()[dag.dag_id] = dag
