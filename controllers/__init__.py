"""What the system does: reconciling, placing, and running containers."""
