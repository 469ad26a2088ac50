"""mtv: batch VM migration to KubeVirt, every wave an Airflow DAG, every disk proven."""

__version__ = "0.1.0"
