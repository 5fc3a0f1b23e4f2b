"""Key management: data keys, key files, services."""
