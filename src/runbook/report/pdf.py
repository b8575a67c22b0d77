"""The report as PDF, for who files paper: tagged for screen readers (PDF/UA), made by weasyprint.

It is an extra, and slow to load: nothing of it is loaded before a PDF is asked for.
"""

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from runbook.errors import UsageError

_VARIANT = "pdf/ua-1"
_TIME = "SOURCE_DATE_EPOCH"


def require_pdf() -> None:
    """Make sure that a PDF can be made.

    Raises `UsageError` if weasyprint, or a library of the system that it needs, is missing.
    """
    with _quiet():
        try:
            import weasyprint  # noqa: F401
        except ImportError:
            raise UsageError(
                "A PDF needs weasyprint, which is not installed.",
                "Install it (pip install 'migration-runbook[pdf]'), or run without --pdf.",
            ) from None
        except OSError:
            raise UsageError(
                "A PDF needs pango, a library of the system, which was not found.",
                "Install it (Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0 "
                "libharfbuzz-subset0; macOS: brew install pango), or run without --pdf.",
            ) from None


def report_pdf(html: bytes) -> bytes:
    """Return a report's page as PDF; the same page gives the same bytes, whenever it is made.

    Nothing is fetched: what does not stand in the page itself is left out. Raises `UsageError`
    where `require_pdf` does.
    """
    require_pdf()
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    with _quiet(), _fixed_time():
        inline_only = URLFetcher(allowed_protocols=["data"])
        page = HTML(string=html.decode(), url_fetcher=inline_only)
        return bytes(page.write_pdf(pdf_variant=_VARIANT))


@contextmanager
def _fixed_time() -> Iterator[None]:
    """Keep the time out of the fonts: fontTools, where it stands in for HarfBuzz, dates them."""
    given = os.environ.get(_TIME)
    os.environ.setdefault(_TIME, "0")
    try:
        yield
    finally:
        if given is None:
            del os.environ[_TIME]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep weasyprint from telling what is of no use to who asked for a PDF.

    It prints a page of advice where a library is missing, and logs every rule of CSS that is for
    screens alone and every link to a file beside the report.
    """
    logger = logging.getLogger("weasyprint")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
