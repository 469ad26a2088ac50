"""The Airflow DAGs of every source's inventory; see `mtv.orchestration.inventory_dag`."""

from mtv.orchestration.inventory_dag import load_inventory_dags

for dag in load_inventory_dags():
    globals()[dag.dag_id] = dag
