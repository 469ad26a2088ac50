-- mtv keeps its own database beside Airflow's.
CREATE DATABASE airflow OWNER mtv;
