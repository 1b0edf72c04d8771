"""Sealed reasoning: `encrypted_content` that only the account and the model family that made it can read.

A seal is an HMAC over account, family, id and thought. The real API tells apart what it can't decrypt at all and what another organisation
was given; both are 400 `invalid_encrypted_content`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from tests.fakes.responses_checks import Problem
from tests.fakes.responses_models import family_of

KEY = b"the imitation's own"
PREFIX = "gAAAAAB"
BROKEN = "Encrypted content could not be decrypted or parsed."
FOREIGN = "Encrypted content organization_id did not match the target organization."
OF_ANOTHER_MODEL = "Encrypted content was created by another model."


def account_of(key: str) -> str:
    """The organisation that a key belongs to: that before the key's own number ("sk-acme-2" is of "sk-acme")."""
    return key.rpartition("-")[0] if key.rpartition("-")[2].isdigit() else key


def sealed(account: str, model_id: str, item_id: str, thought: str) -> str:
    told = json.dumps([account, family_of(model_id), item_id, thought])
    mac = hmac.new(KEY, told.encode(), hashlib.sha256).hexdigest()[:32]
    return PREFIX + base64.b64encode(f"{mac}{told}".encode()).decode()


def seal_problem(item: dict[str, Any], account: str, model_id: str) -> Problem | None:
    """What is wrong with the sealed content of a reasoning item."""
    seal = item["encrypted_content"]
    told = _opened(seal)
    if told is None or (item.get("id") not in (None, told[2])):
        reason = BROKEN
    elif told[0] != account:
        reason = FOREIGN
    elif told[1] != family_of(model_id):
        reason = OF_ANOTHER_MODEL
    else:
        return None
    name = f"for item {item['id']}" if item.get("id") else f"{seal[:4]}...{seal[-4:]}"
    return Problem(f"The encrypted content {name} could not be verified. Reason: {reason}", None, "invalid_encrypted_content")


def _opened(seal: str) -> list[str] | None:
    """Account, family, id and thought; `None` for what isn't ours."""
    try:
        text = base64.b64decode(seal.removeprefix(PREFIX), validate=True).decode()
        told = json.loads(text[32:])
    except (ValueError, TypeError):
        return None
    is_ours = hmac.compare_digest(text[:32], hmac.new(KEY, text[32:].encode(), hashlib.sha256).hexdigest()[:32])
    return told if is_ours and isinstance(told, list) else None
