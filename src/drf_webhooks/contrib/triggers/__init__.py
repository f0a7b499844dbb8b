"""Notice what raw SQL, other programs and the database itself do, by PostgreSQL triggers."""
