"""Where sessions come from: a folder, a simulation, a database."""
