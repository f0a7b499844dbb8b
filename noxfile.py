"""What CI runs on each Python, Django, DRF and database that we claim; ``nox -l`` lists it."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

#: Python, Django, DRF, database. Each Python and each Django, the oldest DRF, and each database.
MATRIX = [
    ("3.11", "5.2", "3.16", "sqlite"),
    ("3.12", "6.0", "3.18", "postgresql"),
    ("3.13", "6.1", "3.18", "mariadb"),
]

#: Folders of tests that have nothing to do with DRF.
_WITHOUT_DRF = ("admin", "delivery", "e2e", "management")


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
    # With the newest Django the whole suite, which is that of MariaDB; with the one before it all
    # but what takes long. What .venv has too runs with the oldest DRF here: no more than knows it.
    # What kills processes, and the browser's pages, are in the suites only.
    is_newest = django == "6.1"
    left_out = [] if drf != MATRIX[0][2] else [f"--ignore=tests/{each}" for each in _WITHOUT_DRF]
    session.run(
        "python",
        "-m",
        "pytest",
        "-n",
        "2",
        "-q",
        "-m",
        "not chaos and not browser"
        if is_newest
        else "not chaos and not browser and not oracle and not slow",
        *left_out,
        *session.posargs,
        env={
            "DRF_WEBHOOKS_TEST_DB": database,
            "PYTHONPATH": "src:.",
            "ORACLE": "1/24",
            "ORACLE_PROGRAMS": "1",
        },
    )
