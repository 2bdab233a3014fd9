"""The words and stores that all rooms share: names, errors, checks, targets, stores, paths, processes, seeds."""
