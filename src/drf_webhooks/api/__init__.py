"""The REST API for subscribers: views that a project includes, or subclasses and registers."""
