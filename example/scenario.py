"""What the demo does over REST, and what has to arrive for it."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError

__all__ = ["Client", "Expected", "Step", "steps"]


class Client:
    """The example's REST API, as a customer's program calls it."""

    def __init__(self, base: str) -> None:
        self.base = base

    def call(self, method: str, path: str, data: Any = None, *, status: int = 0) -> Any:
        """Make a request and return the decoded answer.

        Raises:
            RuntimeError: the answer has another status than ``status``, or is an error.

        """
        request = urllib.request.Request(  # noqa: S310  # our own server
            f"{self.base}{path}",
            method=method,
            data=None if data is None else json.dumps(data).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310  # as above
                got, text = response.status, response.read()
        except HTTPError as error:
            got, text = error.code, error.read()
        if got != status if status else got >= 400:
            msg = f"{method} {path} answered {got}: {text[:500]!r}"
            raise RuntimeError(msg)
        return json.loads(text) if text else None

    def get(self, path: str) -> Any:
        """Read an object."""
        return self.call("GET", path)


@dataclass(frozen=True)
class Expected:
    """An event that has to arrive."""

    type: str
    data: Any

    def __str__(self) -> str:
        return f"{self.type} {self.data['id']}"


@dataclass(frozen=True)
class Step:
    """One thing to do, and what it has to cause; ``act`` does it and says what."""

    what: str
    act: Callable[[Client], list[Expected]]


def steps(objects: dict[str, Any]) -> Iterator[Step]:
    """Give the steps of the demo in their order.

    Args:
        objects: Keys of what exists before: ``tenant``, ``other_tenant``, ``landlord``,
            ``other_landlord``, ``unit``, ``unit_address``.

    """
    links = {
        "tenant_id": objects["tenant"],
        "landlord_id": objects["landlord"],
        "unit_id": objects["unit"],
    }
    new = {"amount": "900.00", **links}
    deposits: list[int] = []

    def deposit(client: Client, name: str, pk: int) -> Expected:
        return Expected(f"core.deposit.{name}", client.get(f"deposits/{pk}/"))

    def all_updated(client: Client) -> list[Expected]:
        return [deposit(client, "updated", pk) for pk in deposits]

    def portfolio(client: Client, name: str) -> Expected:
        return Expected("core.landlord.updated", client.get(f"landlords/{objects[name]}/"))

    def create(client: Client) -> list[Expected]:
        deposits.append(client.call("POST", "deposits/", new)["id"])
        return [deposit(client, "created", deposits[-1])]

    def create_and_update(client: Client) -> list[Expected]:
        deposits.append(client.call("POST", "deposits/corrected/", new)["id"])
        return [deposit(client, "created", deposits[-1])]

    def create_and_delete(client: Client) -> list[Expected]:
        client.call("POST", "deposits/withdrawn/", new)
        return []

    def update(client: Client) -> list[Expected]:
        client.call("PATCH", f"deposits/{deposits[0]}/", {"amount": "950.00"})
        return [deposit(client, "updated", deposits[0])]

    def rename_tenant(client: Client) -> list[Expected]:
        client.call("PATCH", f"tenants/{objects['tenant']}/", {"name": "Ada Lovelace"})
        return all_updated(client)

    def change_address(client: Client) -> list[Expected]:
        client.call("PATCH", f"addresses/{objects['unit_address']}/", {"city": "Vienna"})
        return all_updated(client)

    def unrelated(client: Client) -> list[Expected]:
        client.call("PATCH", f"tenants/{objects['other_tenant']}/", {"name": "Nobody's tenant"})
        return []

    def transfer(client: Client) -> list[Expected]:
        path = f"units/{objects['unit']}/transfer/"
        client.call("POST", path, {"landlord": objects["other_landlord"]})
        # The unit's own row was saved too, and the deposits show the unit.
        return [
            portfolio(client, "landlord"),
            portfolio(client, "other_landlord"),
            *all_updated(client),
        ]

    def add_amenity(client: Client) -> list[Expected]:
        client.call("POST", f"units/{objects['unit']}/amenities/", {"name": "balcony"})
        return all_updated(client)

    def remove_amenity(client: Client) -> list[Expected]:
        client.call("DELETE", f"units/{objects['unit']}/amenities/", {"name": "balcony"})
        return all_updated(client)

    def refused(client: Client) -> list[Expected]:
        client.call("POST", "deposits/refused/", new, status=409)
        return []

    def raised(client: Client) -> list[Expected]:
        client.call("POST", "deposits/raised/", {"amount": "1000.00"})
        return all_updated(client)

    def imported(client: Client) -> list[Expected]:
        client.call("POST", "deposits/imported/", new)
        return []

    def delete(client: Client) -> list[Expected]:
        pk = deposits.pop()
        client.call("DELETE", f"deposits/{pk}/")
        return [Expected("core.deposit.deleted", {"id": pk})]

    yield Step("create a deposit", create)
    yield Step("create and update one in one request", create_and_update)
    yield Step("create and delete one in one request", create_and_delete)
    yield Step("update a deposit", update)
    yield Step("rename the tenant (nested in both)", rename_tenant)
    yield Step("change the unit's address (two hops)", change_address)
    yield Step("rename a tenant without deposits", unrelated)
    yield Step("move the unit to another landlord", transfer)
    yield Step("add an amenity (many-to-many)", add_amenity)
    yield Step("remove it again", remove_amenity)
    yield Step("a request that fails and rolls back", refused)
    yield Step("QuerySet.update(), then trigger()", raised)
    yield Step("import under disable_webhooks()", imported)
    yield Step("delete a deposit", delete)
