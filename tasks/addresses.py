"""Addresses that a person types: they are printed and kept, so that no password may stand in one."""

from __future__ import annotations

import re

_SECRET = re.compile(r"://[^/?#]*@|[?&](?:[^&=]*(?:token|key|secret|password|signature)[^&=]*)=", re.IGNORECASE)


def check_no_secret(name: str, address: str) -> None:
    """Raise ValueError, which does not repeat it, for an address that holds a password or a token."""
    if _SECRET.search(address):
        raise ValueError(
            f"{name} holds a password or token and would be printed and kept; give it in the environment alone "
            "(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN, PGPASSWORD, AWS_*)"
        )
