"""The audit names what nobody monitors, the command prints what is, the helper fails a test."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from rest_framework import serializers

from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import assert_traced
from drf_webhooks.tracing.learnt import learnt
from tests.app.models import Address, Deposit, House, Landlord, RentalUnit, Tag, Tenant
from tests.app.serializers import DepositSerializer, UnitInLandlordSerializer
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db


class WithCode(serializers.ModelSerializer[Deposit]):
    who = serializers.SerializerMethodField()
    broken = serializers.SerializerMethodField()

    class Meta:
        model = Deposit
        fields = ("id", "who", "broken")

    def get_who(self, deposit: Deposit) -> str:
        tags = deposit.unit.tags.count()
        return f"{deposit.tenant.address} {tags} {Landlord.objects.count()}"

    def get_broken(self, deposit: Deposit) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return ""


class Nested(serializers.ModelSerializer[RentalUnit]):
    best = UnitInLandlordSerializer(source="some_property", required=False)
    floors = serializers.IntegerField(source="house.floors", default=None)
    tags: Any = serializers.SlugRelatedField("name", many=True, read_only=True)

    class Meta:
        model = RentalUnit
        fields = ("id", "best", "floors", "tags", "address")


class OfHouse(serializers.ModelSerializer[House]):
    class Meta:
        model = House
        fields = ("id", "name")


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with registry.isolated(), disable_webhooks():
        make_deposit()
        yield
    learnt.forget()


def declare(serializer: Any, **attributes: Any) -> type[Any]:
    return type(
        "SomeWebhook", (ModelSerializerWebhook,), {"serializer_class": serializer, **attributes}
    )


def printed(*arguments: Any, **options: Any) -> str:
    out = StringIO()
    call_command("webhooks_paths", *arguments, stdout=out, **options)
    return out.getvalue()


def test_a_serializer_without_code_is_traced() -> None:
    declare(DepositSerializer)

    assert_traced(DepositSerializer)


def test_what_code_reads_is_named() -> None:
    resource = declare(WithCode)

    with pytest.raises(AssertionError) as raised:
        assert_traced(resource, statements=9)

    said = str(raised.value)
    assert "who reads core.Tenant, its tenant" in said
    assert "who reads core.Address, its tenant.address" in said
    assert "who reads core.Tag, its unit.tags" in said
    assert "who reads core.Landlord, all rows" in said
    assert "not known: statements that are not the ORM's" in said
    assert "core.Deposit" not in said


def test_what_is_declared_is_monitored() -> None:
    declare(
        WithCode,
        depends_on=["tenant__address", "unit__tags"],
        signal_model_instance_base_getters={Landlord: None},
    )

    with pytest.raises(AssertionError) as raised:
        assert_traced(WithCode, statements=9)

    assert "not monitored" not in str(raised.value)


def test_a_query_for_each_object_is_named() -> None:
    declare(WithCode)

    with pytest.raises(AssertionError, match="each object costs 6 statements"):
        assert_traced(WithCode, statements=1)


def test_nothing_to_serialize_proves_nothing() -> None:
    Deposit.objects.all().delete()
    declare(DepositSerializer)

    with pytest.raises(AssertionError, match="there is no Deposit to serialize"):
        assert_traced(DepositSerializer)


def test_what_is_not_declared_cannot_be_traced() -> None:
    with pytest.raises(ValueError, match="DepositSerializer is no resource"):
        assert_traced(DepositSerializer)


def test_an_object_that_cannot_be_serialized_is_named() -> None:
    declare(DepositSerializer)
    Deposit.objects.update(note="boom")

    with pytest.raises(AssertionError, match="could not serialize Deposit"):
        assert_traced(DepositSerializer)


def test_the_paths_are_printed_as_a_tree() -> None:
    declare(DepositSerializer, base_name="core.deposit")

    assert printed("core.deposit") == (
        "core.deposit  (SomeWebhook, DepositSerializer)\n"
        "  Deposit  amount, id, landlord_id, note, tenant_id, unit_id\n"
        "    tenant: Tenant  address_id, id, name, user_id\n"
        "      address: Address  city, id, street\n"
        "      user: User  id, username\n"
        "    landlord: Landlord  address_id, id, name\n"
        "      address: Address  city, id, street\n"
        "    unit: RentalUnit  address_id, id, name\n"
        "      address: Address  city, id, street\n"
        "      tags: Tag  name  (many-to-many)\n"
        "  code: note (NoteField); nothing learnt yet\n"
    )


def test_every_kind_of_line_is_printed() -> None:
    declare(
        WithCode,
        base_name="core.deposit",
        signal_model_instance_base_getters={Tenant: lambda tenant: [], Address: None},
        depends_on=["landlord"],
    )
    declare(Nested, base_name="core.unit")
    declare(OfHouse, base_name="core.house")

    text = printed(learn=True)

    assert "landlord: Landlord  all columns  [depends_on]" in text
    assert "tags: Tag  all columns  [learnt]  (many-to-many)" in text
    assert "+ core.Tenant by a declared getter" in text
    assert "+ core.Landlord: all rows  [learnt]" in text
    assert "code: who (method), broken (method); 5 paths learnt so far" in text
    assert "best: RentalUnit  <- nothing leads back" in text
    assert "RentalUnit (the same object, in its parent's table)" in text


def test_the_audit_ends_with_an_error_if_it_found_something() -> None:
    declare(WithCode, base_name="core.deposit")
    declare(OfHouse, base_name="core.house")
    out = StringIO()

    with pytest.raises(CommandError, match="5 reads are not monitored until they are learnt"):
        call_command("webhooks_paths", audit=True, stdout=out)

    assert "core.deposit: 1 objects serialized, 6 statements for each" in out.getvalue()
    assert "not monitored: who reads core.Tag, its unit.tags" in out.getvalue()
    assert "nothing to serialize: nothing is known" in out.getvalue()


def test_an_audit_without_findings_ends_well() -> None:
    declare(DepositSerializer, base_name="core.deposit")
    declare(OfHouse, base_name="core.house")

    assert "core.house" not in printed("core.deposit", audit=True)


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    declare(DepositSerializer, base_name="core.deposit")

    with pytest.raises(CommandError, match=r"No resource is named 'x'. There are: core.deposit."):
        printed("x")
    with pytest.raises(CommandError, match="It must be at least 1"):
        printed(sample=0)


def test_a_serializer_that_cannot_be_read_says_why() -> None:
    class Bad(serializers.ModelSerializer[Tag]):
        class Meta:
            model = Tag
            fields = ("id", "nothing")

    declare(Bad, base_name="core.tag")

    declare(OfHouse, base_name="core.house")
    assert "core.house" not in printed("core.tag")
    assert "cannot be read: Field name `nothing` is not valid" in printed()
