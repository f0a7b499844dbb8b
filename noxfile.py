"""What CI runs on each Python, Django, DRF and database that we claim; ``nox -l`` lists it."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

#: Python, Django, DRF, database. Each supported pair once, on SQLite; the servers once each.
MATRIX = [
    ("3.11", "5.2", "3.16", "sqlite"),
    ("3.12", "5.2", "3.18", "sqlite"),
    ("3.12", "6.0", "3.18", "postgresql"),
    ("3.12", "6.1", "3.18", "sqlite"),
    ("3.13", "6.1", "3.18", "mariadb"),
]


@nox.session
@nox.parametrize(
    ("python", "django", "drf", "database"),
    MATRIX,
    ids=["-".join(each) for each in MATRIX],
)
def tests(session: nox.Session, django: str, drf: str, database: str) -> None:
    """Run the test suite."""
    session.install("--require-hashes", "-r", "requirements/test.txt")
    session.install(f"django~={django}.0", f"djangorestframework~={drf}.0")
    if database != "sqlite":
        session.install("mysqlclient" if database == "mariadb" else "psycopg[binary]")
    session.install("--no-deps", "--editable", ".")
    # The oracle is asked on the three databases by make test; here on the newest Django, once.
    # Processes are killed there only: what they run is the same here.
    is_asked = (django, database) == ("6.1", "sqlite")
    session.run(
        "python",
        "-m",
        "pytest",
        "-n",
        "2",
        "-q",
        "-m",
        "not chaos" if is_asked else "not chaos and not oracle",
        *session.posargs,
        env={"DRF_WEBHOOKS_TEST_DB": database, "PYTHONPATH": "src:.", "ORACLE_PROGRAMS": "1"},
    )
