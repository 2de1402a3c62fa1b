"""What every controller is made of: a queue, a loop, a supervisor, a recorder. Knows no kind."""
