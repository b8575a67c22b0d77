"""`runbook review`: for whom it works, and what its report tells."""

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.run.test_atomic import unchanged

READER = (
    "CREATE ROLE reader LOGIN",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    "CREATE VIEW failed AS SELECT * FROM enrichment_logs WHERE status = 'FAILED'",
    "CREATE FUNCTION tidy() RETURNS void LANGUAGE plpgsql AS"
    " $$ BEGIN\n  DELETE FROM enrichment_logs WHERE created_at < '2020-01-01';\nEND $$",
)


def test_a_role_that_may_only_read_gets_the_whole_review(sample_newest: Database) -> None:
    sample_newest.execute("DROP ROLE IF EXISTS reader", *READER)
    url = urlsplit(sample_newest.url)
    try:
        with unchanged(sample_newest):
            as_reader = url._replace(netloc="reader@").geturl()
            ended = run("review", "--database-url", as_reader, "--json")
        assert ended.returncode == 0, ended.stderr
        said = json.loads(ended.stdout)
        bundle = Path(said["bundle"])
        manifest = json.loads((bundle / "manifest.json").read_text())
        findings = {one["code"]: one for one in manifest["findings"]}
        missing = findings["privilege-missing"]
        assert missing["level"] == "warning" and "enough for a review" in missing["message"]
        assert "line 2: DELETE FROM enrichment_logs" in findings["function-names-table"]["message"]
        assert all(one["why"] for one in findings.values())
        page = text_of(bundle / "report.html")
        for shown in (
            "view public.failed",
            "follows: it knows the table by its OID, not by its name",
            "function's text public.tidy() line 2: DELETE FROM enrichment_logs",
            "breaks at its next call",
            "Not to be seen by this role: other roles' sessions",
        ):
            assert shown in page
    finally:
        sample_newest.execute("DROP OWNED BY reader", "DROP ROLE reader")


def test_a_blocker_does_not_keep_the_rest_of_the_review_from_the_reader(
    sample_newest: Database,
) -> None:
    sample_newest.execute("CREATE TABLE llama_logs ()")
    ended = run("review", "--database-url", sample_newest.url, "--json")
    assert ended.returncode == 3
    said = json.loads(ended.stdout)
    assert said["message"].startswith("Both tables are there")
    page = text_of(Path(said["bundle"]) / "report.html")
    assert "foreign key from it enrichment_logs_album_id_fkey" in page
    assert "manual_correction" in page


def text_of(page: Path) -> str:
    """Return what a page shows, without its markup, in one line."""
    body = re.sub(r"<style.*?</style>", "", page.read_text("utf-8"), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())
