"""What keeps replicas running: weights on this machine, engine processes, probes, routes."""
