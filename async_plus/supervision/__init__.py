"""Services that come back after a failure."""
