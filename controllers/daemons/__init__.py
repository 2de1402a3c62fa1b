"""The two daemons, wired from the rooms: a manager's life and an agent's."""
