"""What every page stands in: the menu, the width, light or dark as the browser asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

from nicegui import ui

MENU = (
    ("/", "Coverage"),
    ("/market", "Market"),
    ("/pipeline", "Pipeline"),
    ("/tiering", "Tiering"),
    ("/dead-letters", "Dead letters"),
    ("/proof", "Proof"),
)
PATIENCE_MS = 10_000  # for the chart; what there is instead may have something to say
_STYLE = """
:root { --ground: #ffffff; --panel: #f6f8fa; --ink: #1f2328; --faint: #636c76; --edge: #d1d9e0; --link: #0b5cc4; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0f1318; --panel: #171c23; --ink: #e6edf3; --faint: #9198a1; --edge: #2f3742; --link: #6cb0ff; } }
body { background: var(--ground) !important; color: var(--ink); font-family: system-ui, "DejaVu Sans", sans-serif; }
.nicegui-content { padding: 0; gap: 0; }
header.bar { position: static; background: var(--panel); border-bottom: 1px solid var(--edge); width: 100%; padding: 8px 16px;
  display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 18px; }
header.bar b { font-size: 15px; margin-right: 6px; }
header.bar a { color: var(--faint); text-decoration: none; padding: 2px 0; border-bottom: 2px solid transparent; }
header.bar a.here { color: var(--ink); border-color: var(--link); }
header.bar .what { margin-left: auto; color: var(--faint); font-size: 12px; }
main.page { width: 100%; padding: 14px 16px 40px; display: flex; flex-direction: column; gap: 12px; }
.controls { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; }
.controls .q-field { min-width: 118px; }
body.body--dark input[type=date] { color-scheme: dark; }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 6px; font-size: 12px; color: var(--faint); }
.legend i { width: 12px; height: 12px; border-radius: 2px; flex: none; }
.legend span { display: flex; align-items: center; gap: 6px; margin-right: 8px; }
.panel { background: var(--panel); border: 1px solid var(--edge); border-radius: 6px; padding: 10px 12px; width: 100%; min-width: 0; }
.faint { color: var(--faint); font-size: 12px; }
.said { font-size: 15px; }
.trouble { color: #d1242f; white-space: pre-wrap; overflow-wrap: anywhere; }
body.body--dark .trouble { color: #ff8079; }
.code { font: 12px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--ground); border: 1px solid var(--edge); border-radius: 4px; padding: 6px 8px; width: 100%; }
.lines button { justify-content: flex-start; text-align: left; white-space: pre-wrap; }
.line { cursor: pointer; display: block; padding: 3px 0; color: var(--link); text-align: left; background: none; border: 0; font: inherit;
  font-size: 13px; overflow-wrap: anywhere; }
.line:hover { text-decoration: underline; }
.ways { display: grid; grid-template-columns: max-content 1fr; gap: 8px 14px; align-items: center; }
.way { display: grid; grid-template-columns: 1.2fr 1fr 1.2fr 1.2fr .7fr; gap: 22px; min-width: 0; }
.box { position: relative; background: var(--panel); border: 1px solid var(--edge); border-left-width: 4px; border-radius: 6px;
  padding: 5px 9px; min-width: 0; overflow-wrap: anywhere; }
.box:not(:last-child):not(:nth-child(4))::after { content: "→"; position: absolute; right: -20px;
  top: calc(50% - .8em); color: var(--faint); }
.box.tone-good { border-left-color: #2da44e; } .box.tone-warn { border-left-color: #d4a72c; }
.box.tone-bad { border-left-color: #e5534b; } .box.tone-idle { border-left-color: var(--edge); }
.tiers { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
.code + .code { margin-top: 3px; }
.code.tone-warn { border-left: 3px solid #d4a72c; }
.said.tone-bad { color: #d1242f; } body.body--dark .said.tone-bad { color: #ff8079; }
.said.tone-warn { color: #8a6100; } body.body--dark .said.tone-warn { color: #e3b341; }
@media (max-width: 760px) { .ways { grid-template-columns: 1fr; } .way { grid-template-columns: 1fr 1fr; gap: 8px; }
  .box::after { display: none; } .way-name { font-weight: 600; } }
#first { position: absolute; inset: 0; z-index: 1; min-height: 100vh; background: var(--ground); }
#first .controls { height: 56px; }
@media (max-width: 480px) { #first .controls { height: 160px; } }
.q-card { background: var(--panel) !important; color: var(--ink) !important; box-shadow: none; }
"""


@contextmanager
def frame(here: str, what: str) -> Iterator[None]:
    """A page's place. `here`: its path; `what`: which pipeline this is."""
    ui.add_head_html(f"<style>{_STYLE}</style>")
    ui.html(_bar(here, what), sanitize=False, tag="header").classes("bar")
    with ui.element("main").classes("page"):
        yield


def at_first(here: str, what: str, said: str, panel: str) -> None:
    """The page as its own HTML has it, until a chart has been drawn: the menu, the words, and in the first panel the HTML `panel`."""
    ui.add_body_html(f"""\
<div id="first">
<header class="bar">{_bar(here, what)}</header>
<main class="page"><div class="controls"></div><div class="said">{escape(said)}</div><div></div><div class="panel">{panel}</div></main>
</div>
<script>{{
  const first = document.getElementById("first"), end = () => first.remove();
  new MutationObserver((_, seen) => {{
    if (document.querySelector("#app canvas")) {{ seen.disconnect(); requestAnimationFrame(() => requestAnimationFrame(end)); }}
  }}).observe(document.body, {{childList: true, subtree: true}});
  setTimeout(end, {PATIENCE_MS});
}}</script>""")


def _bar(here: str, what: str) -> str:
    menu = "".join(f'<a href="{path}"{" class=here" * (path == here)}>{name}</a>' for path, name in MENU)
    return f'<b>MarketPrism</b>{menu}<span class="what">{escape(what)}</span>'
