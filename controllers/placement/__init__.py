"""Which node runs which task. Decisions only: nothing here reads a store or waits."""
