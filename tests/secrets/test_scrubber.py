"""Finding secrets and taking them out of text, without a database."""

import base64
import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.secrets import (
    Known,
    Scrubber,
    holds_password,
    scrubber_for,
    without_literals,
)
from runbook.secrets.scrubber import SHORTEST_PIECE
from runbook.secrets.spellings import spellings

NOTHING: Mapping[str, str] = {"HOME": "/nowhere"}

AWKWARD = [
    "correct horse %41 battery",
    "a'b\"c@d%e:f/g",
    "pässwörd-寿司",
    "50%dollar%sX",
    "back\\slash'q",
    "<b>&amp;x</b>",
]

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda text: repr(text.encode()),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "HTML": html.escape,
    "HTML of a repr": lambda text: html.escape(repr(text)),
    "percent": lambda text: quote(text, safe=""),
    "SQL": lambda text: text.replace("'", "''"),
    "hexadecimal": lambda text: text.encode().hex(),
    "read as Latin-1": lambda text: text.encode().decode("latin-1"),
    "Base64": lambda text: base64.b64encode(text.encode()).decode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("password", AWKWARD)
def test_a_password_is_replaced_however_it_is_spelt(password: str, encoding: str) -> None:
    url = f"postgresql://u:{quote(password, safe='')}@h/d"
    spelt = ENCODINGS[encoding](password)
    scrubbed = scrubber_for([url], environment=NOTHING).text(f"before {spelt} after")
    assert spelt not in scrubbed and "***" in scrubbed
    assert scrubbed.startswith("before ") and scrubbed.endswith(" after")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=8, max_size=30),
       st.integers(0, 5))  # fmt: skip
def test_no_spelling_of_any_password_stays(password: str, before: int) -> None:
    scrubber = Scrubber(Known(secrets=frozenset([password])))
    longer = base64.b64encode(b"x" * before + password.encode() + b"yz").decode()
    for text in (*spellings(password), longer):
        scrubbed = scrubber.text(f"({text})")
        assert password not in scrubbed and text not in scrubbed


SOURCES: dict[str, dict[str, Any]] = {
    "userinfo": {"values": ["postgresql://u:se%40cretive@h/d"]},
    "query": {"values": ["postgresql://u@h/d?sslmode=prefer&password=se%40cretive"]},
    "key of a certificate": {"values": ["postgresql://u@h/d?sslpassword=se%40cretive"]},
    "connection string": {"values": ["host=h password='se@cretive' user=u"]},
    "variable": {"environment": {"PGPASSWORD": "se@cretive"}},
    "URL in any variable": {"environment": {"X": "postgresql://u:se%40cretive@h/d"}},
    "source": {"sources": ['url = "postgresql://u:se%40cretive@h/d"  # mine']},
}


@pytest.mark.parametrize("place", SOURCES)
def test_a_password_is_found_wherever_it_is_given(place: str) -> None:
    options = {"environment": NOTHING, **SOURCES[place]}
    assert scrubber_for(**options).text("it is se@cretive.") == "it is ***."


def test_the_password_of_libpqs_files_is_found_and_those_of_others_left(tmp_path: Path) -> None:
    passfile, services = tmp_path / "pgpass", tmp_path / "services"
    passfile.write_text(
        "# a comment\nother:*:*:u:elsewhere1\nh:5433:*:u:another-port\n"
        "h:*:d:u:it\\:is\\\\this\n*:*:*:nobody:for-nobody\n"
    )
    services.write_text("[mine]\nhost=h\npassword=of-service\n[other]\npassword=of-other\n")
    files = {"PGPASSFILE": str(passfile), "PGSERVICEFILE": str(services)}
    text = "elsewhere1 another-port it:is\\this for-nobody of-service of-other"
    by_file = scrubber_for(["postgresql://u@h:5432/d"], environment=files)
    assert by_file.text(text) == "elsewhere1 another-port *** for-nobody of-service of-other"
    by_service = scrubber_for(["postgresql:///d?service=mine"], environment=files)
    assert "of-service" not in by_service.text(text) and "of-other" in by_service.text(text)


def test_a_signing_keys_text_is_secret_and_its_path_is_not() -> None:
    body = "MC4CAQAwBQYDK2VwBCIEINq8KyT1pXUmqjg"
    pem = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
    by_name = scrubber_for(environment={"RUNBOOK_SIGNING_KEY": "env:KEY", "KEY": pem})
    assert by_name.text(f"key {body}") == "key ***"
    by_path = scrubber_for(environment={"RUNBOOK_SIGNING_KEY": "/etc/keys/runbook.pem"})
    assert by_path.text("signed by /etc/keys/runbook.pem") == "signed by /etc/keys/runbook.pem"


@pytest.mark.parametrize("word", ["music", "postgres", "enrichment", "x1"])
def test_a_password_that_is_a_harmless_word_is_replaced_where_passwords_stand(word: str) -> None:
    url = f"postgresql://postgres:{word}@h/music"
    scrubber = scrubber_for([url], environment=NOTHING)
    told = f"database music, enrichment_logs of postgres, box1: {word}"
    assert scrubber.text(told) == told
    for text in (
        url,
        quote(url, safe="/"),
        f"host=h password={word} user=postgres",
        f"password = '{word}'",
        f"{{'user': 'postgres', 'password': '{word}'}}",
        json.dumps({"password": word}),
        f"postgresql://postgres@h/music?password={word}&sslmode=prefer",
    ):
        scrubbed = scrubber.text(text)
        assert "***" in scrubbed
        for sign in (
            f":{word}@",
            f"%3A{word}%40",
            f"password={word}",
            f"'{word}'}}",
            f'"{word}"}}',
        ):
            assert sign not in scrubbed, text


def test_what_is_called_a_password_is_replaced_though_nobody_knows_it() -> None:
    scrubber = Scrubber(Known())
    assert scrubber.text("postgresql://u:unknown@h/d") == "postgresql://u:***@h/d"
    assert scrubber.text("PGPASSWORD=unknown psql") == "PGPASSWORD=*** psql"
    assert scrubber.text('{"password": "unk\\"nown"}') == '{"password": "***"}'
    assert scrubber.text("https://h:8080/x?a=b@c") == "https://h:8080/x?a=b@c"
    assert scrubber.text("password authentication failed") == "password authentication failed"


def test_colours_and_cuts_inside_a_password_do_not_save_it() -> None:
    scrubber = scrubber_for(["postgresql://u:50%25dollars@h/d"], environment=NOTHING)
    assert "dollars" not in scrubber.text("'50\x1b[39m%d\x1b[33mollars'")
    assert scrubber.text("conninfo = 'host=h x=50%dol...'") == "conninfo = 'host=h x=***...'"
    assert scrubber.text("conninfo = 'host=h...ollars'") == "conninfo = 'host=h...***'"
    assert scrubber.text("a … ollars, 50%d ... b") == "a … ***, *** ... b"


@given(st.data())
def test_a_cut_anywhere_in_any_spelling_leaves_nothing(data: st.DataObject) -> None:
    """As `reprlib` cuts: the middle of a long text, whatever was written there, is left out."""
    secret = """it's "kaNaRy7Vq" & <50%41> \\ #1"""
    scrubber = Scrubber(Known(secrets=frozenset([secret])))
    spelling = data.draw(st.sampled_from(spellings(secret)))
    start = data.draw(st.integers(0, len(spelling)))
    end = data.draw(st.integers(start, len(spelling)))
    cut = data.draw(st.sampled_from(["...", " ... (12 characters truncated) ... ", "…"]))
    text = f"user='me' password=\\'{spelling[:start]}{cut}{spelling[end:]}\\' dbname='music'"
    scrubbed = scrubber.text(text)
    for size in range(SHORTEST_PIECE, len(spelling)):
        assert not (start >= size and spelling[:size] in scrubbed.replace("password", ""))
        assert not (len(spelling) - end >= size and spelling[-size:] in scrubbed)
    assert scrubbed.startswith("user='me' ") and scrubbed.endswith(" dbname='music'")


def test_the_tail_of_a_password_with_an_unescaped_at_is_no_host() -> None:
    scrubber = scrubber_for(["postgresql://u:se@cret@localhost:5432/d"], environment=NOTHING)
    for host in ("cret@localhost", "cret@localhost:5432"):
        assert scrubber.text(f"could not translate {host}.") == "could not translate ***."


def test_a_tree_is_scrubbed_in_place_and_as_a_copy() -> None:
    tree = {"a secretive key": ["secretive", 1, None, {"b": ("x", "secretive")}]}
    clean = {"a *** key": ["***", 1, None, {"b": ("x", "***")}]}
    scrubber = Scrubber(Known(secrets=frozenset(["secretive"])))
    assert scrubber.tree(tree) == clean and "a secretive key" in tree
    inner = tree["a secretive key"]
    scrubber.into(tree)
    assert tree == clean and tree["a *** key"] is inner


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h/d", True),
        ("postgresql://u@h/d?password=p", True),
        ("postgresql://u@h/d?%70assword=p", True),
        ("postgresql://u@h:5432/d?options=a:b@c", False),
        ("postgresql://u:@h/d", False),
        ("env:DATABASE_URL", False),
        ("embedded:demo", False),
    ],
)
def test_a_password_in_a_url_is_noticed(url: str, expected: bool) -> None:
    assert holds_password(url) is expected


@given(st.text("x\\'\"&quot;:/@.= password", max_size=300))
def test_what_stands_after_a_password_of_any_spelling_is_found_in_any_text(text: str) -> None:
    """The search begins at fewer places than there are characters, and misses none."""
    scrubber = scrubber_for(["postgresql://u:Tr0ub4dor-99@h/d"], environment=NOTHING)
    for spelt in ("http://u:other-1@h", "password=other-1 ", "\\'password\\': \\'other-1\\'"):
        assert "other-1" not in scrubber.text(f"{text} {spelt}")
    assert "Tr0ub4dor-99" not in scrubber.text(f"{text}Tr0ub4dor-99{text}")


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("ALTER ROLE mig PASSWORD 'Tr0ub4dor99'", "ALTER ROLE mig PASSWORD '…'"),
        ("ALTER ROLE mig PASSWORD E'a\\'b' -- 'c'", "ALTER ROLE mig PASSWORD E '…'"),
        ("ALTER ROLE mig PASSWORD $a$Tr0ub4dor99$a$", "ALTER ROLE mig PASSWORD '…'"),
        ("SELECT *\n FROM t1 WHERE pin = 4711", "SELECT * FROM t1 WHERE pin = ?"),
        ("UPDATE t SET a = $1", "UPDATE t SET a = $1"),
        ("", ""),
    ],
)
def test_of_other_peoples_statements_no_literal_is_shown(statement: str, shown: str) -> None:
    assert without_literals(statement) == shown


@given(st.text(max_size=40).map(lambda text: text.replace("'", "''")), st.integers(0, 200))
def test_no_part_of_a_literal_is_shown_wherever_the_server_cuts(literal: str, cut: int) -> None:
    statement = f"ALTER ROLE mig PASSWORD '{literal}', x '{literal}'"
    assert without_literals(statement[:cut]).removesuffix(" '…'") in statement[:24]
