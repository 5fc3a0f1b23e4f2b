"""A deployed channel and server, but for Flower: folders, keys, the channel's service, liveness, processes."""
