"""How a message is written for an endpoint: JSON as it is stored, XML, CloudEvents, or your own.

A format is a pure function of what is stored, so that each attempt sends the same bytes. What
it returns is what is signed.
"""

import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar
from xml.parsers import expat

from django.utils.module_loading import import_string

from drf_webhooks.conf import FORMATS, Config
from drf_webhooks.exceptions import FormatError

__all__ = ["CloudEvents", "Format", "Json", "Message", "Xml", "format_named", "names", "problem"]


@dataclass(slots=True)
class Message:
    """What a format may use.

    ``object_key`` is the object's primary key as JSON. ``source`` is ``CLOUDEVENTS_SOURCE`` or
    ``BASE_URL``, and empty if neither is set.
    """

    id: str
    object_key: str
    body: bytes
    source: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """The stored body, decoded: ``type``, ``timestamp``, ``sequence``, ``data``."""
        content: dict[str, Any] = json.loads(self.body)
        return content


class Format:
    """Write messages. Subclass it, and name the subclass in ``FORMATS``."""

    #: The ``Content-Type`` header.
    content_type: ClassVar[str]

    def write(self, message: Message) -> bytes:
        """Return the body that is sent, the same for the same message.

        Raises:
            FormatError: the message cannot be written like this.

        """
        raise NotImplementedError

    def problem(self, settings: Config) -> str:
        """Say what the project lacks for this format; nothing if it can be used."""
        del settings
        return ""


class Json(Format):
    """The stored bytes."""

    content_type = "application/json"

    def write(self, message: Message) -> bytes:
        return message.body


class Xml(Format):
    """What DRF's XML renderer makes of the stored message."""

    content_type = "application/xml; charset=utf-8"

    def write(self, message: Message) -> bytes:
        if problem := self.problem(Config()):
            raise FormatError(problem)
        renderer = import_string("rest_framework_xml.renderers.XMLRenderer")()
        try:
            text: str = renderer.render(message.content)
            # The renderer takes any key for the name of an element.
            expat.ParserCreate().Parse(text.encode(), True)  # positional only
        except (expat.ExpatError, ValueError) as error:
            msg = f"The message cannot be written as XML: {error}."
            raise FormatError(msg) from error
        return text.encode()

    def problem(self, settings: Config) -> str:
        if importlib.util.find_spec("rest_framework_xml") is None:
            return (
                "The format 'xml' needs the package djangorestframework-xml. "
                "Install drf-webhooks[xml]."
            )
        return ""


class CloudEvents(Format):
    """CloudEvents 1.0 over HTTP, in structured mode."""

    content_type = "application/cloudevents+json"

    def write(self, message: Message) -> bytes:
        if not message.source:
            raise FormatError(_NO_SOURCE)
        content = message.content
        event = {
            "specversion": "1.0",
            "id": message.id,
            "source": message.source,
            "type": content["type"],
            "time": content["timestamp"],
            "subject": _subject(message.object_key),
            # The extension of that name wants a text that sorts like the number.
            "sequence": f"{content['sequence']:019}",
            "datacontenttype": "application/json",
            **({"payloadversion": content["version"]} if "version" in content else {}),
            **({"thin": True} if content.get("thin") else {}),
            "data": content["data"],
        }
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()

    def problem(self, settings: Config) -> str:
        return "" if source(settings) else _NO_SOURCE


_NO_SOURCE = (
    "The format 'cloudevents' needs a source. Set DRF_WEBHOOKS['CLOUDEVENTS_SOURCE'] or "
    "DRF_WEBHOOKS['BASE_URL']."
)


def _subject(object_key: str) -> str:
    """Return a primary key as text: a string without its quotes, all else as JSON."""
    key = json.loads(object_key)
    return key if isinstance(key, str) else object_key


def source(settings: Config) -> str:
    """Return what CloudEvents say to come from; nothing if no setting says so."""
    return settings.CLOUDEVENTS_SOURCE or settings.BASE_URL or ""


def names(settings: Config) -> list[str]:
    """Return the formats that an endpoint may have."""
    return sorted({*FORMATS, *settings.FORMATS})


def format_named(name: str, settings: Config) -> Format:
    """Return a format.

    Raises:
        FormatError: there is none of that name, or it cannot be imported.

    """
    path = settings.FORMATS.get(name) or FORMATS.get(name)
    if path is None:
        msg = f"There is no format {name!r}. Known: {', '.join(names(settings))}."
        raise FormatError(msg)
    return _made(name, path)


@lru_cache(maxsize=64)
def _made(name: str, path: str) -> Format:
    try:
        kind = import_string(path)
    except ImportError as error:
        msg = f"DRF_WEBHOOKS['FORMATS'][{name!r}] cannot be imported: {error}."
        raise FormatError(msg) from error
    if not isinstance(kind, type) or not issubclass(kind, Format):
        msg = f"DRF_WEBHOOKS['FORMATS'][{name!r}] is {path!r}, which is no subclass of Format."
        raise FormatError(msg)
    return kind()


def problem(name: str, settings: Config) -> str:
    """Say why no endpoint can have a format; nothing if it can."""
    try:
        return format_named(name, settings).problem(settings)
    except FormatError as error:
        return str(error)
