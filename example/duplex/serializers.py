"""How a contact travels."""

from rest_framework import serializers

from example.duplex.models import Contact


class ContactSerializer(serializers.ModelSerializer[Contact]):
    class Meta:
        model = Contact
        fields = ("id", "name", "is_deleted", "version", "changed_by")
        # Whether one is there already is for mirror() to find out.
        extra_kwargs = {"id": {"read_only": False, "validators": []}}
