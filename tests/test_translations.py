"""Each text is translated, and the compiled catalogue is that of the text."""

import gettext
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from django.utils import translation

from drf_webhooks.delivery.failures import ERRORS
from tests.app.models import User

SOURCE = Path(__file__).parents[1] / "src/drf_webhooks"
LOCALES = sorted(SOURCE.glob("locale/*/LC_MESSAGES/django.po"))
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?(?:\.\d+)?[dsf]")


@pytest.fixture
def programs() -> None:
    """GNU gettext."""
    if shutil.which("msgfmt") is None or shutil.which("xgettext") is None:
        give_up = pytest.fail if "DRF_WEBHOOKS_TEST_ALL" in os.environ else pytest.skip
        give_up("There is no GNU gettext. Install it: apt-get install gettext.")


def catalogue(path: Path) -> dict[str | tuple[str, int], str]:
    """Read a compiled catalogue: what it says, by text, or by text and number."""
    with path.open("rb") as file:
        found: dict[str | tuple[str, int], str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # its only list
    return {key: text for key, text in found.items() if key != ""}


def test_there_is_a_translation() -> None:
    assert [each.parts[-3] for each in LOCALES] == ["de"]


def compiled(path: Path, folder: Path) -> tuple[dict[str | tuple[str, int], str], str]:
    """Compile a text; return the catalogue, and in words how much of it is translated."""
    made = folder / "compiled.mo"
    found = subprocess.run(  # noqa: S603  # our own arguments
        ["msgfmt", "--check", "--statistics", "-o", str(made), str(path)],  # noqa: S607  # a tool on PATH
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return catalogue(made), found.stderr.strip()


@pytest.mark.parametrize("path", LOCALES, ids=lambda path: path.parts[-3])
def test_the_compiled_catalogue_is_that_of_the_text(
    path: Path, programs: None, tmp_path: Path
) -> None:
    found, _words = compiled(path, tmp_path)

    assert found == catalogue(path.with_suffix(".mo"))


@pytest.mark.parametrize("path", LOCALES, ids=lambda path: path.parts[-3])
def test_each_text_is_translated_and_none_is_left_over(
    path: Path, programs: None, tmp_path: Path
) -> None:
    copy = tmp_path / "drf_webhooks"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    arguments = ["makemessages", "--all", "--no-location", "--no-obsolete"]
    environment = {key: text for key, text in os.environ.items() if "SETTINGS" not in key}
    subprocess.run(  # noqa: S603  # our own arguments
        [sys.executable, "-m", "django", *arguments],
        cwd=copy,
        check=True,
        capture_output=True,
        env=environment,
    )

    found, words = compiled(copy / path.relative_to(SOURCE), tmp_path)

    assert re.fullmatch(r"\d+ translated messages\.", words), "make messages, and translate"
    assert found == catalogue(path.with_suffix(".mo"))


@pytest.mark.parametrize("path", LOCALES, ids=lambda path: path.parts[-3])
def test_a_translation_has_the_placeholders_of_its_text(path: Path) -> None:
    for key, text in catalogue(path.with_suffix(".mo")).items():
        original = key[0] if isinstance(key, tuple) else key
        assert text
        assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(original)), key


@pytest.mark.parametrize("language", [each.parts[-3] for each in LOCALES])
def test_each_error_has_words_in_each_language(language: str) -> None:
    with translation.override(language):
        for name, kind in ERRORS.items():
            assert translation.gettext(kind.meaning) != kind.meaning, name


@pytest.mark.django_db
def test_the_admin_speaks_the_language_of_its_user() -> None:
    client = Client(headers={"accept-language": "de"})
    client.force_login(User.objects.create_superuser("admin"))

    with translation.override("de"):
        shown = client.get("/admin/drf_webhooks/delivery/").text

    assert "Jetzt erneut senden" in shown
    assert "Send again" not in shown
