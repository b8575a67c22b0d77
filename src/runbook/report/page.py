"""The frame of every HTML page: self-contained, no network, light and dark, printable."""

import html
from importlib import resources

# Nothing may be loaded or run: HTML hidden in data stays text, and the page opens without network.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, body: str, extra_css: str = "") -> str:
    """Return a whole page around trusted body markup."""
    css = resources.files("runbook.report").joinpath("page.css").read_text("utf-8")
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{html.escape(title)}</title>\n<style>\n{css}{extra_css}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
