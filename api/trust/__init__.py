"""Whom the cluster trusts, as the store has it: its authority, its join tokens, its managers."""
