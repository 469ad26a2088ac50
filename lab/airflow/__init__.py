"""A local Airflow for the demo and the tests: real components, tuned for two cores, reachable on loopback only."""
