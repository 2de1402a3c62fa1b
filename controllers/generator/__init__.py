"""Makes the values that secrets ask for, and makes them anew when it is time."""
