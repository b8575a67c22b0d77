"""What strangers wrote: specs, names and values, files in the archive, Prisma's history."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psycopg
import pytest
from nbclient import NotebookClient

from runbook import sql
from runbook.archive.bundle import write_bundle
from runbook.archive.folder import FolderStore
from runbook.archive.store import ArchiveError
from runbook.archive.verification import verify_archive
from runbook.errors import RunbookError, SpecError, UsageError
from runbook.export.prisma.history import TABLE, forget, read_history
from runbook.fleet.file import read_fleet
from runbook.spec import load_spec
from runbook.visible import visible
from tests.archive.archives import FILES, record
from tests.conftest import Cluster, Database
from tests.notebook.papermilling import bundles, environment, notebook
from tests.trust.owners import SPEC, Owned, owned

ESCAPE = "\u001b[2J\u001b[H"
FORGED = f"{ESCAPE}migrate: succeeded\u202e\u0085\u009b31m"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ufeff]")

# What turns the direction, joins or has no width; fillers, selectors of variants, tags; line ends.
INVISIBLE = (
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180E, 0x180F, 0x200B),
    *(0x200C, 0x200D, 0x2028, 0x2029, 0x202E, 0x2060, 0x2064, 0x2065, 0x2066, 0x206A, 0x206F),
    *(0x2800, 0x3164, 0xFE00, 0xFE0F, 0xFEFF, 0xFFA0, 0xFFF0, 0xFFF9),
    *(0x1BCA0, 0x1D173, 0xE0001, 0xE0100),
)  # fmt: skip

ESCAPED = json.dumps(FORGED)[1:-1]
HOSTILE = SPEC.replace('title = "Sorting"', f'title = "Sort{ESCAPED}\\nok"').replace(
    'like = "n 1%"', f'like = "n 1{ESCAPED}%"'
)


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path) as made:
        yield made


# -- specs -----------------------------------------------------------------------------------


def test_a_module_that_a_spec_names_is_imported_only_by_leave(place: Owned) -> None:
    trace = place.folder / "trace"
    (place.folder / "evilmod.py").write_text("import evilbeside\n", "utf-8")
    (place.folder / "evilbeside.py").write_text(f"open({str(trace)!r}, 'w')\n", "utf-8")
    models = '\n[models]\nmodule = "evilmod"\nmodel = "Issue"\n'
    (place.folder / "evil.toml").write_text(SPEC + models, "utf-8")
    for command in ("review", "migrate", "rehearse"):
        ended = place.run(command, "--spec", "evil.toml")
        assert ended.returncode == 3, ended.stdout
        assert "'evilmod'" in ended.stdout and "--allow-models" in ended.stdout
    assert place.run("plan", "--spec", "evil.toml").returncode == 0
    assert place.run("migrate", "--spec", "sorting.toml").returncode == 0
    for command in ("verify", "migrate"):
        ended = place.run(command, "--spec", "evil.toml")
        assert ended.returncode == 3, ended.stdout + ended.stderr
        assert "--allow-models" in ended.stdout + ended.stderr
    assert not trace.exists()
    assert place.run("verify", "--spec", "evil.toml", "--allow-models").returncode == 4
    assert trace.exists()


def test_a_deep_or_huge_file_gets_a_sentence(tmp_path: Path) -> None:
    deep = tmp_path / "deep.toml"
    deep.write_text("a = " + "[" * 5_000 + "]" * 5_000, "utf-8")
    nested = tmp_path / "nested.toml"
    condition = "{ not = " * 300 + '{ column = "name", is_null = true }' + " }" * 300
    nested.write_text(SPEC.replace('{ column = "status", equals = ["open", "new"] }', condition))
    huge = tmp_path / "huge.toml"
    with huge.open("wb") as file:
        file.truncate(30 * 2**30)
    for path in (deep, nested, huge):
        with pytest.raises(SpecError, match=r"nested too deeply|larger than 4 MB"):
            load_spec(str(path))
    for path in (deep, huge):
        with pytest.raises(UsageError, match=r"nested too deeply|larger than 4 MB"):
            read_fleet(str(path))


# -- text ------------------------------------------------------------------------------------


def test_every_control_character_is_shown_by_its_number() -> None:
    assert visible(FORGED) == ("\\u001b[2J\\u001b[Hmigrate: succeeded\\u202e\\u0085\\u009b31m")
    assert visible("a\tb\nc", lines=True) == "a\tb\nc" and visible("a\tb\nc") == "a\\u0009b\\u000ac"
    assert visible("日本 – “é” 🎵 ÅA\u030a") == "日本 – “é” 🎵 ÅA\u030a"
    assert json.loads(f'"{visible(chr(0xE0041))}"') == chr(0xE0041)


@pytest.mark.parametrize("code", INVISIBLE, ids=lambda code: f"{code:04X}")
def test_no_two_names_look_alike_by_what_is_not_seen(code: int) -> None:
    assert visible(f"app{chr(code)}le") == f"app{json.dumps(chr(code))[1:-1]}le"
    written = sql.text(sql.name(f"a{chr(code)}")) + sql.text(sql.value(f"a{chr(code)}"))
    assert written.isascii() and written.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        FORGED,
        "a'b\\c\u001b",
        'a"b\\c\u001b',
        "\u001bé日\u202e",
        "a\n--changeset e:1\n",
        "${user}",
        "a\r\n\t/* \u00ad",
        "$x $ {",
    ],
)
def test_sql_with_control_characters_means_the_same_and_holds_none(
    text: str, empty_newest: Database
) -> None:
    query = sql.render("SELECT {value} AS {name}", value=sql.value(text), name=text)
    assert not CONTROLS.search(query) and not re.search(r"[\n\t]|\$\{", query)
    with empty_newest.connect() as connection:
        cursor = connection.execute(query.encode())
        assert cursor.fetchone() == (text,)
        assert cursor.description and cursor.description[0].name == text
        name = sql.render("CREATE TABLE {name} ({name} int)", name=text)
        connection.execute(name.encode())
        oid = sql.render("SELECT {it}::regclass::oid > 0", it=sql.named("public", text))
        assert not CONTROLS.search(oid)
        assert connection.execute(oid.encode()).fetchone() == (True,)


def test_nothing_hostile_reaches_a_terminal_a_page_or_a_script(
    newest: Cluster, tmp_path: Path
) -> None:
    with owned(newest, tmp_path, HOSTILE) as place:
        column = sql.text(sql.name(FORGED))
        place.as_owner(
            f"ALTER TABLE app.tickets ADD COLUMN {column} text",
            f"CREATE INDEX {sql.text(sql.name('tickets_' + FORGED))} ON app.tickets ({column})",
            sql.render("UPDATE app.tickets SET name = {it} WHERE id = 1", it=sql.value(FORGED)),
        )
        for arguments in (
            ("review",), ("plan",), ("plan", "--json"), ("migrate", "--json"), ("status",),
            ("status", "--json"), ("verify",), ("rollback",),
        ):  # fmt: skip
            ended = place.run(*arguments, "--spec", "sorting.toml")
            assert ended.returncode == 0, ended.stdout + ended.stderr
            for told in (ended.stdout, ended.stderr):
                assert not CONTROLS.search(told), arguments
            if "--json" in arguments:
                json.loads(ended.stdout)
        assert len(bundles(place.folder)) == 4
        for bundle in bundles(place.folder):
            for file in ("report.html", "plan.sql"):
                if (bundle / file).exists():
                    assert not CONTROLS.search((bundle / file).read_text("utf-8")), file
        assert "\\u001b[2J" in (bundles(place.folder)[0] / "report.html").read_text("utf-8")
        assert not CONTROLS.search((place.folder / "reports/index.html").read_text("utf-8"))


def test_the_script_is_the_same_bytes_on_the_terminal_in_a_file_and_in_the_bundle(
    newest: Cluster, tmp_path: Path
) -> None:
    with owned(newest, tmp_path, HOSTILE) as place:
        assert place.run("review", "--spec", "sorting.toml").returncode == 0
        archived = (bundles(place.folder)[0] / "plan.sql").read_bytes()
        environment_ = environment(DATABASE_URL=place.urls(), LC_ALL="C", PYTHONIOENCODING="ascii")
        import sys

        command = [sys.executable, "-m", "runbook", "plan", "--spec", "sorting.toml"]
        piped = subprocess.run(
            command, cwd=place.folder, env=environment_, capture_output=True, check=True
        ).stdout
        with (place.folder / "file.sql").open("wb") as file:
            subprocess.run(command, cwd=place.folder, env=environment_, stdout=file, check=True)
        terminal = subprocess.run(
            ["script", "-qec", " ".join(command), "/dev/null"],
            cwd=place.folder, env=environment_, capture_output=True, check=True,
        ).stdout.replace(b"\r\n", b"\n")  # fmt: skip
        assert archived == piped == (place.folder / "file.sql").read_bytes()
        assert archived in terminal


# -- the archive's folder --------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    write_bundle(FolderStore(folder), record("ours"), FILES)
    return folder


def test_a_manifest_of_thirty_gigabytes_is_read_no_further(archive: Path) -> None:
    huge = archive / "20260101T000000Z-x-migrate-succeeded"
    huge.mkdir()
    with (huge / "manifest.json").open("wb") as file:
        file.truncate(30 * 2**30)
    (fault,) = verify_archive(FolderStore(archive)).faults
    assert (fault.bundle, fault.object) == (huge.name, "manifest.json")
    assert "no manifest of the runbook" in fault.message
    write_bundle(FolderStore(archive), record("after"), FILES)
    assert len(FolderStore(archive).bundles()) == 2


def test_a_manifest_that_lists_a_huge_file_needs_no_memory_for_it(archive: Path) -> None:
    (bundle,) = (path for path in archive.iterdir() if path.is_dir())
    with (bundle / "report.html").open("ab") as file:
        file.truncate(3 * 2**30)
    (fault,) = verify_archive(FolderStore(archive)).faults
    assert fault.object == "report.html" and "bytes" in fault.message


def test_a_link_is_no_bundle(archive: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_bundle(FolderStore(elsewhere), record("theirs"), FILES)
    (theirs,) = (path for path in elsewhere.iterdir() if path.is_dir())
    link = archive / f"{theirs.name}-2"
    link.symlink_to(theirs)
    store = FolderStore(archive)
    assert len(store.bundles()) == 1
    (fault,) = verify_archive(store).faults
    assert fault.bundle == link.name and "It is a link, and no bundle" in fault.message
    with pytest.raises(ArchiveError, match="is a link"):
        store.read(link.name, "manifest.json")
    with pytest.raises(ArchiveError, match="is a link"):
        store.files(link.name)


@pytest.mark.parametrize("name", [".index.html.partial", ".head.partial", ".head", "index.html"])
def test_no_link_in_the_folder_is_written_through(name: str, archive: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", "utf-8")
    (archive / name).unlink(missing_ok=True)
    (archive / name).symlink_to(victim)
    write_bundle(FolderStore(archive), record("after"), FILES)
    assert victim.read_text("utf-8") == "precious"
    assert not (archive / "index.html").is_symlink()


def test_a_link_in_the_locks_place_is_refused(archive: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (archive / ".lock").unlink(missing_ok=True)
    (archive / ".lock").symlink_to(victim)
    with pytest.raises(ArchiveError):
        write_bundle(FolderStore(archive), record("after"), FILES)
    assert not victim.exists()


# -- notebooks by hand -----------------------------------------------------------------------


def test_a_notebook_by_hand_shows_no_secret_whatever_fails(tmp_path: Path) -> None:
    """No engine stands between the kernel and what an editor saves."""
    secret = "Tr0ub4dor9-hand"
    url = f"postgresql://nobody:{secret}@127.0.0.1:1/nowhere"
    for renamed in ("lock_timeout_ms", "ledger_schema", "spec"):
        book = nbformat.read(notebook("review"), as_version=4)
        for cell in book.cells:
            if "parameters" in cell.metadata.get("tags", []):
                source = cell.source.replace('"env:DATABASE_URL"', f'"{url}"')
                cell.source = source.replace(f"{renamed}:", f"{renamed}_:")
        shown = _shown(book, tmp_path)
        assert "Refused" in shown or "refused" in shown
        assert secret not in shown, renamed
    # An error of somebody else's, too.
    book = nbformat.read(notebook("review"), as_version=4)
    for cell in book.cells:
        if "run.connect()" in cell.source:
            cell.source = (
                "from runbook.notebook import Review\nrun = Review(globals())\n"
                "raise ValueError(f'cannot reach {database_url}')"
            )
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace('"env:DATABASE_URL"', f'"{url}"')
    assert secret not in _shown(book, tmp_path)


def _shown(book: nbformat.NotebookNode, folder: Path) -> str:
    """Run a notebook as an editor does; return what stands below its cells."""
    client = NotebookClient(book, allow_errors=True, kernel_name="python3",
                            resources={"metadata": {"path": str(folder)}})  # fmt: skip
    client.execute(env=environment())
    return json.dumps([cell.get("outputs", []) for cell in book.cells])


# -- Prisma's history ------------------------------------------------------------------------


def test_prismas_history_is_a_table_like_any_other(place: Owned) -> None:
    place.as_owner(
        f"CREATE TABLE app.{TABLE} (id varchar(36) PRIMARY KEY, checksum varchar(64),"
        " finished_at timestamptz, migration_name text, logs text, rolled_back_at timestamptz,"
        " started_at timestamptz, applied_steps_count integer)",
        f"INSERT INTO app.{TABLE} (id) VALUES ('x')",
        "CREATE FUNCTION app.fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'as %', current_user; END $$",
    )
    with place.database.session() as connection:
        assert read_history(connection, "app", "runbook").schema == "app"
    place.as_owner(
        f"CREATE TRIGGER t BEFORE INSERT OR DELETE ON app.{TABLE} FOR EACH ROW"
        " EXECUTE FUNCTION app.fires()"
    )
    with place.database.session() as connection:
        with pytest.raises(RunbookError, match=f"t on app.{TABLE}"):
            read_history(connection, "app", "runbook")
        with connection.transaction():
            assert forget(connection, "x", "runbook") == ()
        assert connection.execute(f"SELECT count(*) FROM app.{TABLE}".encode()).fetchone() == (1,)


# -- rehearsals ------------------------------------------------------------------------------


def test_an_owners_code_is_no_superusers_on_the_embedded_copy(
    newest: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs there as it does at home: as a role that cannot start a program."""
    with owned(newest, tmp_path) as place:
        place.as_owner(
            "CREATE FUNCTION app.fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
            " THEN RAISE EXCEPTION 'a superuser'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER t BEFORE UPDATE ON app.tickets FOR EACH ROW"
            " EXECUTE FUNCTION app.fires()",
            "UPDATE app.tickets SET status = 'done', name = 'x', note = 'y' WHERE id > 5",
        )
        place.database.execute(f"GRANT CREATE ON DATABASE {place.database.name} TO {place.owner}")
        tmp_path.chmod(0o755)
        ended = place.run(
            "rehearse", "--spec", "sorting.toml", "--scratch", "embedded", role=place.owner
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "went up, down and up again" in ended.stdout


# -- poolers ---------------------------------------------------------------------------------


def test_behind_a_pooler_no_setting_outlives_a_transaction(empty_newest: Database) -> None:
    """A session that says that another process answers is taken for one behind a pooler."""
    from runbook.trust.session import Session

    class Pooled(Session):
        def close_search_path(self) -> None:
            super().close_search_path()
            self.execute("RESET search_path")
            self.is_pooled = True
            from runbook.trust.session import _PinnedCursor

            self.cursor_factory = _PinnedCursor

    shown = "SELECT current_setting('search_path')"
    with Pooled.connect(empty_newest.conninfo, autocommit=True) as connection:
        connection.close_search_path()
        assert connection.execute(shown).fetchone() == ('""',)
        with connection.transaction():
            assert connection.execute(shown).fetchone() == ('""',)
            with connection.transaction():
                assert connection.execute(shown).fetchone() == ('""',)
        row = psycopg.Cursor.execute(psycopg.Cursor(connection), shown).fetchone()
        assert row is not None and row[0] == '"$user", public'
        connection.autocommit = False
        assert connection.execute(shown).fetchone() == ('""',)
