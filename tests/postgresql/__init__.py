"""Django's backend for PostgreSQL, faster between tests."""
