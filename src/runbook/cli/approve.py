"""`runbook approve`: say in the archive that a review's plan may run. Needs no database."""

import click

from runbook.cli.archive import find_bundle, reading
from runbook.cli.options import archive_options, key_option
from runbook.cli.terminal import say, say_json
from runbook.errors import UsageError

_UNSIGNED = (
    "It is not signed: whoever can write the archive could have made it. Sign with --signing-key "
    "(runbook keygen makes a key)."
)


@click.command()
@archive_options
@key_option
@click.option("--by", required=True, metavar="NAME", help="Who approves the plan.")
@click.option("--note", default="", metavar="TEXT", help="What is to be said about it.")
@click.argument("bundle")
def approve(reports: str, as_json: bool, by: str, note: str, bundle: str) -> None:
    """Approve the plan of a review, by its BUNDLE's name or path.

    The approval is archived as a bundle of its own, bound to the plan's hash. Ends with 3 if the
    bundle is no review that succeeded, or is not as it was sealed.
    """
    from runbook.archive.approval import approve as archive_approval
    from runbook.archive.keys import signing_key

    if not by.strip():
        raise UsageError("--by is empty.", "Give the name of who approves the plan.")
    key = signing_key()
    store, name = find_bundle(reports, bundle)
    with reading(store):
        made = archive_approval(store, name, by=by.strip(), note=note.strip(), key=key)
    if as_json:
        plan = made.plan.model_dump(mode="json")
        say_json({"outcome": "succeeded", "bundle": made.location, "plan": plan})
    else:
        say(f"Plan {made.plan.sha256} is approved by {by.strip()}.")
        say(f"Archived as {made.location}")
    if key is None:
        say(_UNSIGNED, err=True)
