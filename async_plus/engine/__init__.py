"""The engine: tasks that are owned, watched, retried and waited for."""
