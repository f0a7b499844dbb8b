"""Who can log in."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A person; perhaps a tenant."""
