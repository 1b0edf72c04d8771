"""What upstreams say of a prompt that is too long, and the sentence that a client of the Messages protocol reads."""

from __future__ import annotations


def whole(prompt: int, limit: int) -> str:
    return f"prompt is too long: {prompt} tokens > {limit} maximum"


def both(prompt: int, output: int, limit: int) -> str:
    words = "decrease input length or `max_tokens` and try again"
    return f"input length and `max_tokens` exceed context limit: {prompt} + {output} > {limit}, {words}"


OVERFLOWS = [
    ("prompt is too long: 213462 tokens > 200000 maximum", whole(213462, 200000)),
    (both(195000, 21333, 200000), both(195000, 21333, 200000)),
    (
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens. "
            "Please reduce the length of the messages."
        ),
        whole(130001, 128000),
    ),
    (
        (
            "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens "
            "(5904 in the messages, 4096 in the completion). Please reduce the length of the messages or completion."
        ),
        both(5904, 4096, 8192),
    ),
    (
        (
            "This endpoint's maximum context length is 200000 tokens. However, you requested about 213000 tokens "
            "(190000 of text input, 13000 of tool input, 10000 in the output). Please reduce the length of either one."
        ),
        whole(203000, 200000),
    ),
    (
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 8192 tokens "
            "and your request has 5000 input tokens (4096 > 8192 - 5000)."
        ),
        both(5000, 4096, 8192),
    ),
    ("The request exceeds the available context size (4096 tokens), try increasing it", "prompt is too long (%)"),
    ("request (5210 tokens) exceeds the available context size (4096 tokens), try increasing it", whole(5210, 4096)),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", whole(1200000, 1048576)),
    ("This model's maximum prompt length is 131072 but the request contains 140,000 tokens.", whole(140000, 131072)),
    ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", whole(40000, 32768)),
    ("Input is too long for requested model.", "prompt is too long (%)"),
    ("prompt is too long, said somebody", "%"),
    ("maximum context length is 100 tokens, your messages resulted in 90 tokens", whole(101, 100)),
]
"""Words, and the sentence; `%` stands for the words themselves."""
