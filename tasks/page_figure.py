"""A picture on the report page."""

from __future__ import annotations

import base64
from html import escape


def figure(png: bytes, alternative: str, caption: str) -> str:
    """The picture in the page itself, with words for who does not see it."""
    data = base64.b64encode(png).decode("ascii")
    image = f'<img loading="lazy" alt="{escape(alternative)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"
