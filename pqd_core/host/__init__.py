"""The machinery around the path: plugins, registry, errors, keys, paths, the log and the command line."""
