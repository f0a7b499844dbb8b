"""Outgoing webhooks for Django REST Framework, declared by its serializers."""
