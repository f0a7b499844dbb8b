"""What rows look like on a page: escaped, cut, and with nothing in it that acts or hides."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

__all__ = [
    "NOTHING",
    "Table",
    "badge",
    "block",
    "cut",
    "lines",
    "link",
    "moment",
    "quiet",
    "span",
    "visible",
]

NOTHING = "-"

#: Of one text on a page.
_SHOWN_CHARACTERS = 20_000
#: A longer text is shown as it is: to indent it would take longer than anybody waits.
_INDENTED_BYTES = 1024 * 1024

#: Characters that move a terminal's cursor, end a text for some, or turn its direction.
_CONTROLS = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]
#: What Unicode calls default ignorable, save the variation selectors of what is seen, and what
#: ends a line or annotates.
_UNSEEN = (
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810)),
    *(*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x3164),
    *(0xFEFF, 0xFFA0, *range(0xFFF0, 0xFFFC), *range(0x1BCA0, 0x1BCA4)),
    *(*range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)),
)
_HIDDEN = {code: f"\\x{code:02x}" for code in _CONTROLS} | {
    code: f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004  # as Python writes it
    for code in _UNSEEN
}


def visible(text: str) -> str:
    """Return a text in which what is not seen is written out."""
    # A receiver may have sent half a character.
    return text.replace("\r\n", "\n").translate(_HIDDEN).encode(errors="replace").decode()


def cut(text: str, length: int) -> str:
    """Return a text of one line, of so many characters at most."""
    shown = visible(" ".join(text[: length + 1].split()))
    return f"{shown[:length]}…" if len(shown) > length else shown


def block(data: bytes | memoryview | str | None) -> str:
    """Return a text as a block, cut to what a page can bear; bytes that are JSON are indented."""
    if data is None:
        return NOTHING
    text = data if isinstance(data, str) else bytes(data).decode(errors="replace")
    if not isinstance(data, str) and len(data) <= _INDENTED_BYTES:
        # A receiver may answer with what is nested too deep.
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    rest = len(text) - _SHOWN_CHARACTERS
    shown = visible(text[:_SHOWN_CHARACTERS])
    if rest > 0:
        more = _("%(count)d characters more") % {"count": rest}
        shown = f"{shown}…\n[{more}]"
    # A long one scrolls in its place, and so has to be reached by the keyboard.
    return format_html('<pre class="webhooks-text" tabindex="0">{}</pre>', shown)


#: Beside the colour, for who does not see it.
_SIGNS = {"good": "●", "bad": "▲", "idle": "■", "busy": "◆"}


def badge(kind: str, text: object, title: str = "") -> SafeString:
    """Return a word with a colour and a sign: ``"good"``, ``"bad"``, ``"busy"``, ``"idle"``."""
    return format_html(
        '<span class="webhooks-badge webhooks-{}" title="{}">'
        '<span aria-hidden="true">{}</span> {}</span>',
        kind,
        visible(title),
        _SIGNS[kind],
        text,
    )


def moment(at: datetime | None) -> str:
    """Return a moment in the time zone of the page."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S.%f %Z}",
        f"{local:%Y-%m-%d %H:%M:%S}",
    )


def span(length: timedelta | None) -> str:
    """Return how long something took."""
    if length is None:
        return NOTHING
    milliseconds = length / timedelta(milliseconds=1)
    if milliseconds < 1000:  # noqa: PLR2004  # a second
        return _("%(number).0f ms") % {"number": milliseconds}
    return _("%(number).1f s") % {"number": milliseconds / 1000}


def link(url: str, text: object) -> SafeString:
    """Return a link, or the text if there is no such page."""
    if not url:
        return format_html("{}", text)
    return format_html('<a href="{}">{}</a>', url, text)


def quiet(text: str, length: int) -> str:
    """Return a text that says less than what stands above it; nothing for nothing."""
    if not text:
        return ""
    return format_html('<span class="webhooks-quiet">{}</span>', cut(text, length))


@dataclass(frozen=True)
class Table:
    """Other rows that a row's page shows: a list of texts for each, and where there are more."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    more_url: str = ""
    empty: str = field(default="")


def lines(texts: Iterable[str]) -> str:
    """Return texts below each other, without those that are empty."""
    return format_html_join("", "<div>{}</div>", ((each,) for each in texts if each))
