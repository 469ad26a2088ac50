"""The main job on real input: lab and Airflow come up, a wave runs as a person would run it, and the proof is shown."""
