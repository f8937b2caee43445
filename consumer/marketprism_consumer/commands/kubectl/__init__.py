"""`kubectl marketprism`: pipelines in a cluster. The same as `marketprism kubectl`."""

from __future__ import annotations

from marketprism_consumer.commands.common import command_line
from marketprism_consumer.commands.kubectl import audit, logs, migrate, pause, render, status

app = command_line(
    "Looks after pipelines in a cluster, with the kubeconfig of `kubectl`.",
    (
        ("status", status.status, status.EXAMPLES),
        ("pause", pause.pause, pause.PAUSE_EXAMPLES),
        ("resume", pause.resume, pause.RESUME_EXAMPLES),
        ("migrate", migrate.migrate, migrate.EXAMPLES),
        ("audit", audit.audit, audit.EXAMPLES),
        ("logs", logs.logs, logs.EXAMPLES),
        ("render", render.render, render.RENDER_EXAMPLES),
        ("diff", render.diff, render.DIFF_EXAMPLES),
    ),
    within="kubectl",
)
