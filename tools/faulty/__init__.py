"""What `tools/faults.py` is made of: trainings that get killed, and a comparison of two runs."""
