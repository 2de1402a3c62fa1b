"""A container engine that exists only here: what the simulated driver speaks to."""
