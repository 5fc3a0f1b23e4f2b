"""The app that `flwr run` runs."""
