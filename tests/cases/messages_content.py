"""Requests with cache markers, images and files (rules 15 and 22)."""

from __future__ import annotations

import json
from typing import Any

from tests.cases.messages import (
    ABSENT,
    GIF,
    HELLO,
    HELLO_SENT,
    HOUR,
    JPEG,
    MARK,
    PDF,
    PNG,
    ROUND,
    TOOL_SENT,
    TOOLS,
    WEBP,
    RefusedRow,
    RequestRow,
    call,
    chat,
    image,
    pasted,
    result,
    said,
    system,
    text,
    tool,
    turn,
    use,
    used,
    user,
)

LONG = "word " * 1200
DOCUMENT = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
PNG_URL = f"data:image/png;base64,{PNG}"


def shown(says: str, part: dict[str, Any], block: dict[str, Any], notes: tuple[str, ...] = ()) -> RequestRow:
    return RequestRow((22,), says, chat(user(part)), {"messages": [turn("user", block)]}, notes)


def in_result(says: str, parts: Any, content: Any) -> RequestRow:
    return RequestRow(
        (22,),
        says,
        chat(HELLO, said(None, call()), result(content=parts), tools=TOOLS),
        {"messages.2": turn("user", used(content=content))},
    )


MARKERS = [
    RequestRow(
        (15,),
        "markers on messages, parts, tools and calls are kept",
        chat(
            system("A", **MARK),
            user(text("B", **MARK), text("C")),
            said(None, call(**MARK)),
            result(content="D"),
            tools=[tool(), tool("b", **MARK)],
        ),
        {
            "tools.1": {**TOOL_SENT, "name": "b"},
            "system.0": text("A", **MARK),
            "messages.0.content.1": text("C", **MARK),
            "messages.1.content.0": use(**MARK),
            "messages.2.content.0": used(content="D", **MARK),
        },
    ),
    RequestRow(
        (15,),
        "a marker on a message with calls is on the last of them",
        chat(HELLO, said("A", call("a"), call("b"), **MARK), result("a"), result("b"), tools=TOOLS),
        {"messages.1.content.1": use("a"), "messages.1.content.2": use("b", **MARK)},
    ),
    RequestRow(
        (15,),
        "a marker on a message of text is on its end",
        chat(HELLO, said([text("A"), text("B")], **MARK), {**HELLO, **MARK}),
        {"messages.1": turn("assistant", text("A"), text("B", **MARK)), "messages.2": turn("user", text("Hello", **MARK))},
    ),
    RequestRow(
        (15,),
        "markers within a result are one marker on it",
        chat(HELLO, said(None, call()), result(content=[text("A", **HOUR), text("B", **MARK)]), tools=TOOLS),
        {"messages.2": turn("user", used(content=[text("A"), text("B")], **HOUR))},
    ),
    RequestRow(
        (15,),
        "a marker of an hour gives its life to those before it",
        chat(system("A", **MARK), user(text("B", **HOUR))),
        {"system.0": text("A", **HOUR), "messages.0.content.0": text("B", **HOUR)},
    ),
    RequestRow(
        (15,),
        "a marker of five minutes says so",
        chat(user(text("B", cache_control={"type": "ephemeral", "ttl": "5m"}))),
        {"messages.0.content.0.cache_control": {"type": "ephemeral", "ttl": "5m"}},
    ),
    RequestRow(
        (15,),
        "what is no marker is left out",
        chat(
            user(
                text("A", cache_control={"type": "forever"}),
                text("B", cache_control=True),
                text("C", cache_control={"type": "ephemeral", "ttl": ["x"]}),
            )
        ),
        {"messages": [turn("user", text("A"), text("B"), text("C", **MARK))]},
    ),
    RequestRow(
        (15,),
        "of more than four the ends and the latest are kept",
        chat(system("A", **MARK), user(*[text(str(number), **MARK) for number in range(6)])),
        {
            "system.0": text("A", **MARK),
            **{f"messages.0.content.{number}.cache_control": ABSENT for number in range(3)},
            **{f"messages.0.content.{number}": text(str(number), **MARK) for number in (3, 4, 5)},
        },
    ),
    RequestRow(
        (15,), "a marker on the request is one on its end", chat(HELLO, **MARK), {"messages": [turn("user", text("Hello", **MARK))]}
    ),
    RequestRow(
        (15,),
        "a long session of an agent is marked without being asked",
        chat(system(LONG), *ROUND, tools=TOOLS),
        {
            "tools.0": TOOL_SENT,
            "system.0.cache_control": MARK["cache_control"],
            "messages.0.content.0": text("Hello", **MARK),
            "messages.1.content.0": use(),
            "messages.2.content.0": used(**MARK),
        },
    ),
    RequestRow(
        (15,),
        "without a system the tools are marked",
        chat(user(text(LONG)), tools=TOOLS),
        {"tools.0": {**TOOL_SENT, **MARK}, "messages.0.content.0.cache_control": MARK["cache_control"]},
    ),
    RequestRow(
        (15,), "a long question that nothing follows is not", chat(system(LONG), HELLO), {"system.0": text(LONG), "messages": [HELLO_SENT]}
    ),
    RequestRow(
        (15,),
        "a long conversation is",
        chat(user(text(LONG)), said("Hi."), HELLO),
        {"messages.0.content.0": text(LONG, **MARK), "messages.2.content.0": text("Hello", **MARK)},
    ),
    RequestRow(
        (15, 11),
        "nothing is marked where the deployment refused it",
        chat(system("A", **MARK), {**HELLO, **MARK}, tools=[tool(**MARK)]),
        {"system.0": text("A"), "messages": [HELLO_SENT], "tools": [TOOL_SENT]},
        ("dropped=cache_control",),
        refused=frozenset({"cache_control"}),
    ),
    RequestRow(
        (15, 11), "nothing is told of where nothing was marked", chat(), {"messages": [HELLO_SENT]}, refused=frozenset({"cache_control"})
    ),
]

IMAGES = [
    shown("a label that lies is corrected by the bytes", image(f"data:image/jpeg;base64,{PNG}"), pasted("image/png", PNG)),
    shown("JPEG", image(f"data:image/jpg;base64,{JPEG}"), pasted("image/jpeg", JPEG)),
    shown("GIF", image(f"data:;base64,{GIF}"), pasted("image/gif", GIF)),
    shown("WebP", image(f"data:image/png;name=a;base64,{WEBP}"), pasted("image/webp", WEBP)),
    shown("base64 in lines", image(f"data:image/png;base64,{PNG[:8]}\r\n {PNG[8:]}"), pasted("image/png", PNG)),
    shown("base64 as a URL writes it", image(f"data:image/jpeg;base64,{JPEG.replace('=', '%3D')}"), pasted("image/jpeg", JPEG)),
    shown("escapes of letters", image(f"data:image/jpeg;base64,%{ord(JPEG[0]):x}{JPEG[1:]}"), pasted("image/jpeg", JPEG)),
    shown("base64 without its padding", image(f"data:image/jpeg;base64,{JPEG.rstrip('=')}"), pasted("image/jpeg", JPEG)),
    shown(
        "an address is handed on",
        image("HTTPS://example.com/a.png"),
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ),
    shown(
        "an address as a plain string",
        {"type": "input_image", "image_url": "http://example.com/a"},
        {"type": "image", "source": {"type": "url", "url": "http://example.com/a"}},
    ),
    shown(
        "detail has no counterpart",
        {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "low"}},
        pasted("image/png", PNG),
        ("dropped=detail",),
    ),
    shown(
        "detail that is the default is no loss",
        {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "auto"}},
        pasted("image/png", PNG),
    ),
    shown("a PDF that is called an image", image(f"data:image/png;base64,{PDF}"), DOCUMENT),
    shown(
        "a PDF file",
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        {**DOCUMENT, "title": "a.pdf"},
    ),
    shown("a PDF file in plain base64", {"type": "input_file", "file_data": PDF}, DOCUMENT),
    shown(
        "a file at an address",
        {"type": "file", "file": {"file_data": "https://example.com/a.pdf", "filename": "a.pdf"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}, "title": "a.pdf"},
    ),
    shown(
        "a file of text",
        {"type": "file", "file": {"file_data": "data:text/markdown;base64,SGVsbG8="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hello"}},
    ),
    shown("a file that is an image", {"type": "file", "file": {"file_data": PNG_URL}}, pasted("image/png", PNG)),
    shown("a block of the upstream's own protocol", {**DOCUMENT, "title": "b", **MARK}, {**DOCUMENT, "title": "b", **MARK}),
    shown("an image of the upstream's own protocol whose label lies", pasted("image/jpeg", PNG), pasted("image/png", PNG)),
    RequestRow(
        (22, 15),
        "an image keeps its marker",
        chat(user({**image(PNG_URL), **MARK}, text("What?"))),
        {"messages.0.content.0": {**pasted("image/png", PNG), **MARK}},
    ),
    in_result("images in results become blocks", [text("Look"), image(PNG_URL)], [text("Look"), pasted("image/png", PNG)]),
    in_result(
        "so do those in a JSON string of parts", json.dumps([text("Look"), image(PNG_URL)]), [text("Look"), pasted("image/png", PNG)]
    ),
    in_result(
        "in the words of an MCP server", json.dumps([{"type": "image", "data": PNG, "mimeType": "image/png"}]), [pasted("image/png", PNG)]
    ),
    in_result(
        "in the words of the AI SDK",
        json.dumps(
            [
                text("Look"),
                {"type": "media", "data": PNG, "mediaType": "image/png"},
                {"type": "image-data", "data": JPEG, "mediaType": "image/jpeg"},
            ]
        ),
        [text("Look"), pasted("image/png", PNG), pasted("image/jpeg", JPEG)],
    ),
    in_result(
        "files too",
        json.dumps([{"type": "file-data", "data": PDF, "mediaType": "application/pdf", "filename": "a.pdf"}]),
        [{**DOCUMENT, "title": "a.pdf"}],
    ),
    in_result(
        "addresses of files too",
        json.dumps([{"type": "file-url", "url": "https://example.com/a.pdf"}]),
        [{"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}],
    ),
    in_result("parts that were cut off stay text", '[{"type":"image_url","image', '[{"type":"image_url","image'),
    in_result(
        "addresses too",
        json.dumps([{"type": "image-url", "url": "https://example.com/a"}]),
        [{"type": "image", "source": {"type": "url", "url": "https://example.com/a"}}],
    ),
    in_result("other JSON stays text", json.dumps([{"type": "image_url", "size": 5}]), json.dumps([{"type": "image_url", "size": 5}])),
    in_result("parts of text alone stay text", '[{"type":"text","text":"\\"image"}]', '[{"type":"text","text":"\\"image"}]'),
    in_result("what looks like JSON stays text", '["image', '["image'),
    in_result("an empty list stays text", '[ ]  "image', '[ ]  "image'),
    in_result(
        "an image that is none stays text",
        json.dumps([{"type": "image", "data": "%%%", "mimeType": "image/png"}]),
        json.dumps([{"type": "image", "data": "%%%", "mimeType": "image/png"}]),
    ),
]

REQUESTS = [*MARKERS, *IMAGES]


def unreadable(says: str, part: Any, words: str) -> RefusedRow:
    return RefusedRow((22,), says, chat(user(text("Look"), part)), words, "messages[0].content[1]")


REFUSED = [
    unreadable("sound has no counterpart", {"type": "input_audio", "input_audio": {}}, "of type 'input_audio' is not supported"),
    unreadable("an image without anything", {"type": "image"}, "of type 'image' is not supported"),
    unreadable("an image has an address", {"type": "image_url", "image_url": {}}, "url must be a string"),
    unreadable("an address is one of the web", image("ftp://a/b"), "an http(s) URL or a data URL"),
    unreadable("a data URL is in base64", image("data:image/png,abc"), "must be in base64"),
    unreadable("base64 is base64", image("data:image/png;base64,????????"), "not base64"),
    unreadable("base64 is ASCII", image("data:image/png;base64,éééé"), "not base64"),
    unreadable("an escape is whole", image("data:image/png;base64,iVBORw%3"), "not base64"),
    unreadable("an escape is hexadecimal", image(f"data:image/png;base64,{PNG}%zz"), "not base64"),
    unreadable("an escape is one of ASCII", image(f"data:image/png;base64,{PNG}%C3%A9"), "not base64"),
    unreadable("base64 is whole", image(f"data:image/png;base64,{PNG}A"), "not base64"),
    unreadable("an image has bytes", image("data:image/png;base64,"), "holds no data"),
    unreadable("an image is of four kinds", image("data:image/svg+xml;base64,PHN2Zz4="), "not 'image/svg+xml'"),
    unreadable("an image of the upstream's protocol has bytes", pasted("image/png", ""), "holds no data"),
    unreadable("a file has its bytes", {"type": "file", "file": {"file_id": "file-1"}}, "must hold its 'file_data'"),
    unreadable("a file is of some kinds", {"type": "file", "file": {"file_data": "UEsDBA=="}}, "not 'of an unknown type'"),
    unreadable("a file of text is UTF-8", {"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}, "not UTF-8"),
    unreadable("a file of text holds some", {"type": "file", "file": {"file_data": "data:text/plain;base64,IA=="}}, "holds no text"),
]
