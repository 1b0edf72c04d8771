"""Wrong arguments, keys, files, ports and disks: what is given, what the command line says, and what a person does about it.

`docs/troubleshooting.md` and its Chinese sister have a line for each, made from this table by `python -m tests.cases.wrong_input`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import compat

QUIET = "discovery.enabled = false\nembedded.enabled = false\n"
UPSTREAM = QUIET + '[upstreams.up]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["m"]\napi_keys = ["sk-x"]\n'
PORT = "28877"
"""A port that a program has while the cases run."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A command that can't do what it should. `said` is what the documents quote of its one line, `todo` and `zh` what to do.

    `files` are written before, `None` makes a folder; `before` is run before; `code` 1 is said on standard output. One that serves is a
    process of its own (`is_real`).
    """

    argv: Sequence[str]
    said: str
    todo: str
    zh: str
    config: str | None = QUIET
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    code: int = 2
    is_real: bool = False


CASES = (
    Wrong(["setp", "kilo"], "No such command 'setp'. Did you mean 'setup'?", "take the name that it gives", "用它给出的名称"),
    Wrong(
        ["--prot", "1"], "No such option '--prot'", "take one of those that it names, or see `--help`", "用它列出的选项，或查看 `--help`"
    ),
    Wrong(["--port"], "Option '--port' requires an argument.", "give the value", "写上取值"),
    Wrong(["--port", "abc"], "'abc' is not a port: 0 to 65535.", "give a number", "写一个数字"),
    Wrong(["--port", "70000"], "'70000' is not a port: 0 to 65535.", "give a number up to 65535", "写不大于 65535 的数字"),
    Wrong(["doctor", "now"], "Got unexpected extra argument (now)", "leave it out", "去掉它"),
    Wrong(
        ["--config", "nowhere.toml", "--check"],
        "nowhere.toml: can't be read: No such file or directory.",
        "name a file that exists",
        "写一个存在的文件",
    ),
    Wrong(["setup"], "Missing argument 'CLIENT'.", "name one of the clients that it lists", "写上它列出的客户端之一"),
    Wrong(["setup", "vim"], "'vim' is not one of 'kilo'", "name one of the clients that it lists", "写它列出的客户端之一"),
    Wrong(
        ["setup", "kilo", "--url", "notaurl"],
        "is not the address of a gateway",
        "give an address like `http://127.0.0.1:28889`",
        "写 `http://127.0.0.1:28889` 这样的地址",
    ),
    Wrong(
        ["--usage", "--since", "yesterday"],
        "'yesterday' is neither a number of days (7d) nor a date",
        "write `7d` or `2026-11-01`",
        "写 `7d` 或 `2026-11-01`",
    ),
    Wrong(["keys"], "Missing command.", "`keys list`, `add`, `rotate` or `revoke`", "`keys list`、`add`、`rotate` 或 `revoke`"),
    Wrong(["keys", "add"], "Missing argument 'NAME'.", "name the client that the key is for", "写上密钥所属客户端的名称"),
    Wrong(["keys", "add", "a b"], "'a b' is not a valid name for a key", "use the characters that it names", "只用它列出的字符"),
    Wrong(
        ["keys", "add", "laptop"],
        "A key 'laptop' exists already",
        "choose another name, or `keys rotate` for a new secret",
        "换一个名称，或用 `keys rotate` 换新密钥",
        before=["keys", "add", "laptop"],
    ),
    Wrong(
        ["keys", "add", "laptop", "--limit", "often"],
        "'often' is not a limit",
        "write it as `60/minute; 100000 tokens/minute`",
        "写成 `60/minute; 100000 tokens/minute`",
    ),
    Wrong(["keys", "add", "laptop", "--day-usd", "many"], "'many' is not a valid float.", "give a number of US dollars", "写美元数额"),
    Wrong(["keys", "add", "laptop", "--day-usd", "-1"], "A budget is a number of US dollars", "give a positive number", "写正数"),
    Wrong(["keys", "add", "laptop", "--expires", "never"], "'never' is neither a span", "`30d`, `12h` or a date", "`30d`、`12h` 或日期"),
    Wrong(["keys", "add", "laptop", "--expires", "2020-01-01"], "is in the past.", "give a day to come", "写一个未来的日期"),
    Wrong(["keys", "add", "laptop", "--models", ","], "--models names no model", "write names with commas", "用逗号分隔名称"),
    Wrong(
        ["keys", "add", "laptop", "--group", "nobody"],
        "There is no group 'nobody'",
        "add `[groups.nobody]` to `config.toml` first",
        "先在 `config.toml` 中加上 `[groups.nobody]`",
    ),
    Wrong(["keys", "revoke", "nobody"], "There is no key 'nobody'", "`keys list` shows the names", "`keys list` 显示名称"),
    Wrong(
        ["keys", "rotate", "laptop", "--overlap", "soon"],
        "'soon' is neither a span",
        "`7d`, `12h` or a date",
        "`7d`、`12h` 或日期",
        before=["keys", "add", "laptop"],
    ),
    Wrong(
        ["keys", "list"],
        "keys.json: is not a file of client keys",
        "restore the file, or move it away and make the keys anew",
        "恢复该文件，或把它移走并重新生成密钥",
        files={"data/keys.json": b"{"},
    ),
    Wrong(
        ["keys", "add", "laptop"],
        "keys.json: can't be written: Not a directory.",
        "`data` has to be a folder; `OPENAI_COMPAT_KEYS` names another file",
        "`data` 必须是文件夹；`OPENAI_COMPAT_KEYS` 可指定另一个文件",
        files={"data": b""},
    ),
    Wrong(["--check"], "is not valid TOML: Invalid value (at line 1", "correct that line", "改正那一行", config="port = = 1\n"),
    Wrong(
        ["--check"],
        "unknown key 'server.prot'; did you mean 'port'?",
        "take the name that it gives",
        "用它给出的名称",
        config="server.prot = 1\n",
    ),
    Wrong(
        ["--check"],
        "key 'server.port': Expected `int`, got `str`.",
        "write a number, without quotes",
        "写数字，不加引号",
        config='server.port = "28889"\n',
    ),
    Wrong(
        ["--check"],
        "key 'upstreams.up.kind': 'opnai' is not one of",
        "take one of the kinds that it lists",
        "用它列出的种类之一",
        config='[upstreams.up]\nkind = "opnai"\n',
    ),
    Wrong(
        ["--check"],
        "key 'models.fast.route': 'gpt' must be written upstream/model.",
        "write the upstream before it: `openai/gpt-4o`",
        "在前面写上上游：`openai/gpt-4o`",
        config=UPSTREAM + '[models.fast]\nroute = ["gpt"]\n',
    ),
    Wrong(
        ["--check"],
        "No upstream of the route of 'fast' is configured.",
        "give one of its upstreams a key, or correct the route",
        "为路由中的某个上游设置密钥，或改正路由",
        config=UPSTREAM + '[models.fast]\nroute = ["nobody/m"]\n',
        code=1,
    ),
    Wrong(
        ["--check"],
        "key 'keys.laptop.hash': Expected the hash that `--new-key` shows.",
        "run it, and copy the hash",
        "运行它，并复制哈希值",
        config='[keys.laptop]\nhash = "sk-compat-1"\n',
    ),
    Wrong(
        ["--check"],
        "key 'search.url': Expected an address that begins with http:// or https://.",
        "write the whole address",
        "写完整的地址",
        config='[search]\nurl = "searx.lan"\n',
    ),
    Wrong(
        ["--check"],
        "0.0.0.0 can be reached from other machines, so client keys are required.",
        "`python app.py keys add NAME`, or keep 127.0.0.1",
        "`python app.py keys add NAME`，或保留 127.0.0.1",
        config='server.host = "0.0.0.0"\n',
    ),
    Wrong(
        ["--check"],
        "key 'storage.redis_url': Redis URL must specify one of the following schemes",
        "write `redis://` before it",
        "在前面写上 `redis://`",
        config=QUIET + '[storage]\nredis_url = "localhost"\n',
    ),
    Wrong(
        ["--check"],
        "nowhere.gguf does not exist",
        'give the path of a file, or `model = "auto"`',
        '写文件的路径，或 `model = "auto"`',
        config='discovery.enabled = false\n[embedded]\nmodel = "/nowhere.gguf"\n',
        code=1,
    ),
    Wrong(
        ["--check"],
        "config.toml: can't be read: Is a directory.",
        "put a file in its place",
        "换成一个文件",
        config=None,
        files={"config.toml": None},
    ),
    Wrong(
        ["--check"],
        "config.toml: is UTF-16, as PowerShell writes it",
        "`Set-Content -Encoding utf8`",
        "`Set-Content -Encoding utf8`",
        config=None,
        files={"config.toml": b"\xff\xfep\0"},
    ),
    Wrong(["--check"], ".env: can't be read: Is a directory.", "put a file in its place", "换成一个文件", files={".env": None}),
    Wrong(
        ["--check"],
        "environment variable OPENAI_API_KEY: a key holds characters that can't be sent in a header: copy it again.",
        "copy the key again, without line breaks",
        "重新复制密钥，不要带换行",
        environment={"OPENAI_API_KEY": "sk\nx"},
    ),
    Wrong(
        ["--port", PORT],
        f"can't listen on 127.0.0.1:{PORT}: Address already in use.",
        "stop the other program, or choose another port",
        "停掉另一个程序，或换一个端口",
        is_real=True,
    ),
    Wrong(
        ["--host", "192.0.2.1"],
        "Cannot assign requested address. --host takes an address of this machine.",
        "`127.0.0.1`, `0.0.0.0` or an address of the machine",
        "`127.0.0.1`、`0.0.0.0` 或本机的某个地址",
        before=["keys", "add", "laptop"],
        is_real=True,
    ),
    Wrong(
        [],
        "is this gateway itself, which would call itself.",
        "unset the variable where the gateway starts: it is for clients",
        "在启动网关的地方取消该变量：它是给客户端用的",
        config=QUIET + "server.port = 28876\n",
        environment={"OPENAI_BASE_URL": "http://127.0.0.1:28876/v1", "OPENAI_API_KEY": "sk-x"},
        is_real=True,
    ),
    Wrong(
        ["--usage"],
        "Nothing can be shown: usage.sqlite: file is not a database",
        "restore the file; a new one is begun, and the damaged one is kept beside it",
        "恢复该文件；网关会新建一个，并把损坏的保留在旁边",
        files={"data/usage.sqlite": b"no database at all " * 99},
        code=1,
    ),
    Wrong(
        ["setup", "kilo", "--no-proof"],
        ".config/kilo/kilo.jsonc: line 1, column 3",
        "correct the file at that place; it was not touched",
        "改正该处；文件未被改动",
        files={".config/kilo/kilo.jsonc": b"{ oops"},
        code=1,
    ),
    Wrong(
        ["setup", "kilo", "--no-proof"],
        "Not a directory. Correct it, or add by hand what --print shows.",
        "a folder of the path is a file: move that away",
        "路径中的某个文件夹是文件：把它移走",
        files={".config": b""},
        code=1,
    ),
    Wrong(
        ["setup", "kilo", "--undo"],
        "data/setup.json, can't be read",
        "move it away; copies of what was changed are beside the clients' files",
        "把它移走；改动前的副本在客户端文件旁边",
        files={"data/setup.json": b"x"},
    ),
    Wrong(
        ["setup", "kilo", "--undo"],
        "kilo.jsonc: Is a directory.",
        "a folder has taken the file's place: move it away",
        "文件夹占了文件的位置：把它移走",
        files={"data/setup.json": b'{"kilo": {".config/kilo/kilo.jsonc": {"digest": ""}}}', ".config/kilo/kilo.jsonc": None},
    ),
    Wrong(
        ["--check"],
        "key 'upstreams.up.base_url': 'notaurl' is not an http or https URL.",
        "write the whole address: `http://127.0.0.1:11434/v1`",
        "写完整的地址：`http://127.0.0.1:11434/v1`",
        config=UPSTREAM.replace("http://127.0.0.1:9/v1", "notaurl"),
    ),
    Wrong(
        ["--check"],
        "key 'upstreams.up.api_keys': a key is empty: write one, or take it out.",
        "give the key, or take the line out",
        "写上密钥，或去掉这一行",
        config=UPSTREAM.replace("sk-x", ""),
    ),
    Wrong(
        ["--check"],
        "key 'upstreams.up.api_keys': the environment has no NOWHERE: set it, in .env for example.",
        "set the variable, in `.env` for example",
        "设置该变量，例如在 `.env` 中",
        config=UPSTREAM.replace("sk-x", "env:NOWHERE"),
    ),
    Wrong(
        ["--check"],
        "can't be reached at http://127.0.0.1:9/v1: No connection to 127.0.0.1:9: Connection refused.",
        "start that server, or correct `base_url`",
        "启动那个服务，或改正 `base_url`",
        config=UPSTREAM,
        code=1,
    ),
    Wrong(
        ["--check"],
        "the Redis of storage.redis_url can't be used: ConnectionError at 127.0.0.1:9",
        "start Redis, or correct the address",
        "启动 Redis，或改正地址",
        config=UPSTREAM + '[storage]\nredis_url = "redis://127.0.0.1:9"\n',
        code=1,
    ),
    Wrong(
        ["--check"],
        "logs/openai_compat.log can't be written: Not a directory",
        "`logs` has to be a folder that the gateway may write to; `[log] file` names another file",
        "`logs` 必须是网关可写的文件夹；`[log] file` 可指定另一个文件",
        config=UPSTREAM,
        files={"logs": b""},
        code=1,
    ),
    Wrong(
        ["--check"],
        "data/usage.sqlite can't be written: Is a directory",
        "move the folder away",
        "把该文件夹移走",
        config=UPSTREAM,
        files={"data/usage.sqlite": None},
        code=1,
    ),
)

BEGIN, END = "<!-- the table of tests/cases/wrong_input.py: begin -->", "<!-- end -->"
HEADS = {"en": ("command", "it says", "what to do"), "zh": ("命令", "它说", "怎么办")}
ROOT = Path(compat.__file__).parents[1]
DOCUMENTS = {"en": ROOT / "docs/troubleshooting.md", "zh": ROOT / "docs/troubleshooting.zh-CN.md"}


def table(language: str) -> str:
    """The lines of the document in `language`."""
    lines = [f"| {' | '.join(HEADS[language])} |", "|---|---|---|"]
    for case in CASES:
        said = case.said.replace("|", "\\|")
        lines.append(f"| `{' '.join(('app.py', *case.argv))}` | *{said}* | {case.todo if language == 'en' else case.zh} |")
    return "\n".join((BEGIN, "", *lines, "", END))


def with_table(text: str, language: str) -> str:
    """A document with its table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + table(language) + rest.partition(END)[2]


if __name__ == "__main__":
    for language, path in DOCUMENTS.items():
        path.write_text(with_table(path.read_text(encoding="utf-8"), language), encoding="utf-8")
