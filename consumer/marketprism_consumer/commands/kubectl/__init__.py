"""`kubectl marketprism`: pipelines in a cluster. The same as `marketprism kubectl`."""

from __future__ import annotations

import typer

from marketprism_consumer.commands.exits import epilog
from marketprism_consumer.commands.kubectl import audit, logs, migrate, pause, render, status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Looks after pipelines in a cluster, with the kubeconfig of `kubectl`.",
)
for name, run_it, examples in (
    ("status", status.status, status.EXAMPLES),
    ("pause", pause.pause, pause.PAUSE_EXAMPLES),
    ("resume", pause.resume, pause.RESUME_EXAMPLES),
    ("migrate", migrate.migrate, migrate.EXAMPLES),
    ("audit", audit.audit, audit.EXAMPLES),
    ("logs", logs.logs, logs.EXAMPLES),
    ("render", render.render, render.RENDER_EXAMPLES),
    ("diff", render.diff, render.DIFF_EXAMPLES),
):
    app.command(name, epilog=epilog(f"kubectl {name}", examples))(run_it)
