"""What each step of an itinerary does, free of Airflow."""
