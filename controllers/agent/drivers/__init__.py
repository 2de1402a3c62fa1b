"""Runtimes that run containers, behind one contract: see `contract`."""
