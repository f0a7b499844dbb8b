"""What CI runs on each Python, Django, DRF and database that we claim; ``nox -l`` lists it."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

#: Python, Django, DRF, database: each Python, each Django, the oldest and the newest DRF, and each
#: database. PostgreSQL has the newest Django here and the oldest in ``.venv``: there we use what
#: Django does not document.
MATRIX = [
    ("3.11", "5.2", "3.16", "sqlite"),
    ("3.12", "6.1", "3.18", "postgresql"),
    ("3.13", "6.0", "3.18", "mariadb"),
]

#: What is the same on each database runs with the oldest and with the newest of the rest. The
#: oracle takes long, and is asked by itself.
LEFT_OUT = {
    "sqlite": "not oracle",
    "postgresql": "not oracle and not anywhere",
    "mariadb": "not oracle and not browser",
}


@nox.session
@nox.parametrize(
    ("python", "django", "drf", "database"),
    MATRIX,
    ids=["-".join(each) for each in MATRIX],
)
def tests(session: nox.Session, django: str, drf: str, database: str) -> None:
    """Run ``make test`` in an environment of these; what follows ``--`` is for pytest."""
    session.install("--require-hashes", "-r", "requirements/ci.txt")
    session.install(f"django~={django}.0", f"djangorestframework~={drf}.0")
    session.install("--no-deps", "--editable", ".")
    session.run(
        "make",
        "test",
        f"BIN={session.bin}",
        f"ARGS=-m '{LEFT_OUT[database]}' {' '.join(session.posargs)}",
        external=True,
        env={"DRF_WEBHOOKS_TEST_DB": database},
    )
