"""Reading and writing what attached programs count and keep: run statistics, variables, maps."""
