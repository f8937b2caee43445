"""One set of colours that can be read on a light and on a dark ground: charts don't know which one they stand on."""

from __future__ import annotations

from typing import Any

TEXT = "#7d8590"
LINE = "rgba(128,128,128,0.22)"
GOOD = "#2da44e"
NOTE = "#a371f7"
WARN = "#d4a72c"
BAD = "#e5534b"
NONE = "rgba(128,128,128,0.35)"
BLUE = "#4184e4"
ORANGE = "#e0823d"

# Tooltips are drawn as text, never as HTML: symbols and reasons come from messages.
TOOLTIP: dict[str, Any] = {
    "renderMode": "richText",
    "confine": True,
    "backgroundColor": "#24292f",
    "borderWidth": 0,
    "textStyle": {"color": "#f0f3f6", "fontSize": 12},
}
AXIS: dict[str, Any] = {
    "axisLabel": {"color": TEXT, "hideOverlap": True},
    "axisLine": {"lineStyle": {"color": LINE}},
    "axisTick": {"show": False},
    "splitLine": {"lineStyle": {"color": LINE}},
}
