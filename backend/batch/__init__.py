"""Many shots in one command: tasks that are done once each, here or at a backend, and a table of what came of them."""
