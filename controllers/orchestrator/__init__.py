"""From services to tasks: decisions without I/O, and the loop that carries them out."""
