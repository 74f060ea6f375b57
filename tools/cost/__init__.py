"""What `tools/benchmark.py` is made of: subjects, workloads, measurement, report."""
