"""All that imports Airflow."""
