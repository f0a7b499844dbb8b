"""System checks of where requests may go: what a deployment on the internet should know."""

import os
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Any

from django.core import checks
from django.core.exceptions import ValidationError
from django.db import DatabaseError, router, transaction

from drf_webhooks.addresses import has_special, ports
from drf_webhooks.conf import Config, config, given, mistakes
from drf_webhooks.models import Endpoint
from drf_webhooks.validators import validate_url

__all__ = ["check_destinations", "check_urls"]

_ENVIRONMENT = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_WEB_PORTS = (80, 443)
_LOWEST_FREE_PORT = 1024
_EXAMPLES = 3


def check_destinations(**_: Any) -> list[checks.CheckMessage]:
    """Settings that let requests go where on the internet they should not; for ``--deploy``."""
    return [] if mistakes(given()) else [*_check(config())]


def _check(read: Config) -> Iterator[checks.CheckMessage]:
    if not read.HTTPS_ONLY:
        yield checks.Warning(
            "DRF_WEBHOOKS['HTTPS_ONLY'] is False. What is sent to http endpoints can be read and "
            "changed on the way.",
            hint="Remove it. Addresses in ALLOWED_NETWORKS may be http without it.",
            id="drf_webhooks.W202",
        )
    private = [each for each in read.ALLOWED_NETWORKS if has_special(ip_network(each))]
    if private:
        yield checks.Warning(
            f"DRF_WEBHOOKS['ALLOWED_NETWORKS'] has {', '.join(private)}: whoever may enter an "
            "endpoint's URL reaches what listens there.",
            hint="Name single addresses of receivers, as '10.1.2.3/32', or silence this check.",
            id="drf_webhooks.W203",
        )
    low = [each for each in read.ALLOWED_PORTS if _is_of_other_services(each)]
    if low:
        yield checks.Warning(
            f"DRF_WEBHOOKS['ALLOWED_PORTS'] has {', '.join(map(str, low))}: ports below 1024 are "
            "those of other services than HTTP, which can be made to act by what is sent.",
            hint="Use 80, 443 and those from 1024.",
            id="drf_webhooks.W204",
        )
    if read.PROXY is not None:
        yield checks.Warning(
            "DRF_WEBHOOKS['PROXY'] is set: names are looked up by the proxy, and so it alone "
            "keeps requests from reaching the own network.",
            hint="Have the proxy refuse private networks, and silence this check.",
            id="drf_webhooks.W205",
        )
    else:
        variable = next((each for each in _ENVIRONMENT if os.environ.get(each)), None)
        if variable is not None:
            yield checks.Warning(
                f"{variable} is set in the environment and DRF_WEBHOOKS['PROXY'] is not: "
                "requests do not go through that proxy.",
                hint="Set DRF_WEBHOOKS['PROXY'], or silence this check.",
                id="drf_webhooks.W206",
            )


def check_urls(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Endpoints whose URLs the settings do not allow any more, asked of the databases."""
    if mistakes(given()):
        return []
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        refused = [*_refused(alias)] if router.allow_migrate_model(alias, Endpoint) else []
        if refused:
            examples = " ".join(refused[:_EXAMPLES])
            found.append(
                checks.Warning(
                    f"{len(refused)} enabled endpoints in the database {alias!r} have URLs that "
                    f"no request is sent to. {examples}",
                    hint="Have them corrected, or allow them by the settings.",
                    id="drf_webhooks.W207",
                )
            )
    return found


def _refused(alias: str) -> Iterator[str]:
    enabled = Endpoint.objects.using(alias).filter(state=Endpoint.State.ENABLED)
    try:
        with transaction.atomic(using=alias):
            for url in enabled.order_by("pk").values_list("url", flat=True).iterator():
                try:
                    validate_url(url)
                except ValidationError as error:
                    yield error.messages[0]
    except DatabaseError:
        # Before the first migration.
        return


def _is_of_other_services(value: int | str) -> bool:
    return any(port < _LOWEST_FREE_PORT and port not in _WEB_PORTS for port in ports(value))
