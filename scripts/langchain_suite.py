"""LangChain's standard tests of chat models, for three clients. `scripts/judge_langchain.py` runs them where LangChain is installed.

`JUDGED_URL` is the gateway's address. Files that the tests would fetch from the internet are made here.
"""

# ruff: noqa: RUF012  # the suite wants plain attributes of the class
from __future__ import annotations

import base64
import os
from types import SimpleNamespace

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
)
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
CLAUDE, GPT, OTHER_CLAUDE, OTHER_GPT = "claude-sonnet-4-6", "gpt-5.4", "claude-haiku-4-5", "gpt-4.1"


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be fetched is here."""
    monkeypatch.setattr(httpx, "get", lambda url, **_: SimpleNamespace(content=PDF if url.endswith(".pdf") else PICTURE))


class _Suite(ChatModelIntegrationTests):
    supports_image_inputs = supports_image_urls = supports_image_tool_message = supports_pdf_inputs = supports_model_override = True


class TestMessages(_Suite):
    """Over `/v1/messages`."""

    chat_model_class = ChatAnthropic
    chat_model_params = {"model": CLAUDE, "base_url": os.environ["JUDGED_URL"], "api_key": "sk-any", "max_retries": 0}
    model_override_value = OTHER_CLAUDE
    supports_anthropic_inputs = supports_pdf_tool_message = True


class TestChat(_Suite):
    """Over `/v1/chat/completions`."""

    chat_model_class = ChatOpenAI
    chat_model_params = {
        "model": GPT,
        "base_url": os.environ["JUDGED_URL"] + "/v1",
        "api_key": "sk-any",
        "max_retries": 0,
        "stream_usage": True,  # off where the address is not OpenAI's
    }
    model_override_value = OTHER_GPT
    supports_json_mode = True


class TestResponses(TestChat):
    """Over `/v1/responses`."""

    chat_model_params = {**TestChat.chat_model_params, "use_responses_api": True}


del _Suite
