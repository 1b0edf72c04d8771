"""What `bench.embedded` asks the embedded models: questions in English, in Chinese and about code, and calls of tools.

Each question stands with a pattern that a right answer has, and no wrong one that a small model is prone to.
"""

from __future__ import annotations

from typing import Any

ENGLISH = {
    "Hello": r"(?i)^(?=.*\b(hello|hi|help|assist)\b)",
    "Hi! Who are you?": r"(?i)smollm|qwen|\bAI\b|assistant",
    "What is the capital of France?": r"Paris",
    "What is the capital of Japan? Answer with one word.": r"Tokyo",
    "What is 17 plus 25?": r"\b42\b",
    "How many days does a week have?": r"(?i)\b(7|seven)\b",
    "Which planet is closest to the sun?": r"Mercury",
    "What is the chemical formula of water?": r"H2O|H\u2082O",
    "Name the three primary colours of light.": r"(?is)(?=.*red)(?=.*green)(?=.*blue)",
    "What is the opposite of hot?": r"(?i)\bcold\b",
    "Explain what an API is in two sentences.": r"(?i)application programming interface|communicat|interact",
    "Translate 'good morning' into Spanish.": r"(?i)buen[oa]s d[i\u00ed]as",
    "Translate 'thank you' into French.": r"(?i)merci",
    "List three fruits.": r"(?i)banana|apple|orange",
    "Why is the sky blue?": r"(?i)scatter",
    "Write a haiku about the sea.": r"(?i)sea|wave|ocean",
    "Summarise in one sentence: The quick brown fox jumps over the lazy dog.": r"(?i)fox",
    "Write a short story about a dog, in three sentences.": r"(?i)dog|pup",
    "What does HTTP stand for?": r"(?i)hyper\s?text transfer protocol",
    "In which year did the Second World War end?": r"\b1945\b",
    "Who wrote Romeo and Juliet?": r"Shakespeare",
    "What is the plural of 'mouse'?": r"(?i)\bmice\b",
    "Is 7 a prime number? Answer yes or no.": r"(?i)\byes\b",
    "Give me a recipe for pancakes.": r"(?i)(?=[\s\S]*flour)(?=[\s\S]*egg)",
}

CHINESE = {
    "你好": r"你好|帮|您好",
    "你是谁？": r"(?i)助手|模型|qwen|千问|AI",
    "中国的首都是哪里？": r"北京",
    "日本的首都是哪里？": r"东京",
    "一年有几个月？": r"12|十二",
    "一周有几天？": r"7|七",
    "3加5等于多少？": r"8|八",
    "12乘以12等于多少？": r"144",
    "把\u201c谢谢\u201d翻译成英文。": r"(?i)thank",
    "把\u201capple\u201d翻译成中文。": r"苹果",
    "水的化学式是什么？": r"H2O|H\u2082O|H_2O|\\text",
    "列出三种水果。": r"苹果|香蕉|橙|葡萄|梨",
    "太阳从哪个方向升起？": r"东",
    "\u201c热\u201d的反义词是什么？": r"冷|凉|寒",
    "什么是人工智能？": r"人工智能|计算|机器",
    "用一句话解释什么是API。": r"接口|程序",
    "世界上最高的山是哪座？": r"珠穆朗玛|珠峰",
    "写一句关于春天的话。": r"春",
    "地球是圆的吗？": r"是|球|椭",
    "Linux下怎样列出目录中的文件？": r"\bls\b",
    "用Python写一个打印\u201c你好\u201d的程序。": r"print\(",
    "用Python写一个函数，计算两个数的和。": r"def \w+[\s\S]*return [\s\S]*\+",
}

CODE = {
    "Write a Python function that reverses a string.": r"\[::-1\]|reversed",
    "Write a Python function that adds two numbers.": r"def \w+[\s\S]*return \w+ ?\+ ?\w+",
    "Write a Python function that checks whether a number is even.": r"% ?2",
    "Write a Python function that returns the factorial of n.": r"def \w+[\s\S]*(\*|math\.factorial|prod)",
    "Write a Python class for a stack.": r"class \w*Stack[\s\S]*def push[\s\S]*pop",
    "Write a Python function that reads a text file and returns its lines.": r"open\([\s\S]*(readlines|splitlines|for line)",
    "Write a Python list comprehension with the squares of 0 to 9.": r"\[\w+ ?\*\* ?2 for|\[(\w+) ?\* ?\1 for",
    "How do I list files in a directory on Linux?": r"\bls\b",
    "How do I undo the last git commit but keep the changes?": r"git reset (--soft|--mixed|HEAD)|git reset HEAD",
    "Which command shows the current directory in a shell?": r"\bpwd\b",
    "Write a SQL query that selects all rows of the table users.": r"(?i)select \* from users",
    "Write a SQL query that counts the rows of the table orders.": r"(?i)select count\((\*|\w+)\)[\s\S]*from orders",
    "Write a JavaScript function that returns the largest number of an array.": r"Math\.max|for ?\(|reduce|forEach",
    "Write an HTML page with the heading Hello.": r"(?i)<h1>\s*hello",
    "Write a Bash loop that prints 1 to 5.": r"for [\s\S]*do[\s\S]*echo",
    "What does this print? print(len('hello'))": r"\b5\b",
    "What does this Python code print? print([1, 2, 3][-1])": r"\b3\b",
    "Fix this Python line: prnt('hi')": r"print\(['\"]hi['\"]\)",
    "Explain recursion to a beginner, with an example in Python.": r"(?i)def (\w+)[\s\S]*return[\s\S]*\1",
    "Write a regular expression that matches four digits.": r"\\d\{4\}|\[0-9\]\{4\}|\\d\\d\\d\\d",
    "Write a Python dictionary with the keys name and age.": r"[\"']name[\"']\s*:[\s\S]*[\"']age[\"']\s*:",
    "How do I install the package requests with pip?": r"pip3? install requests",
    "Which HTTP status code means 'not found'?": r"404",
    "Write a Python function fibonacci(n) that returns the n-th Fibonacci number.": r"def fibonacci[\s\S]*return",
}

QUESTIONS = {"English": ENGLISH, "Chinese": CHINESE, "code": CODE}


def _tool(name: str, description: str, **properties: str) -> dict[str, Any]:
    fields = {key: {"type": "string", "description": words} for key, words in properties.items()}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    _tool("read_file", "Reads a file of the project and returns its text.", path="The file's path"),
    _tool("list_files", "Lists the files of a folder of the project.", path="The folder's path"),
    _tool("run_command", "Runs a shell command and returns its output.", command="The command"),
    _tool("get_weather", "Tells the weather of a city just now.", city="The city's name"),
]
CALLS = {
    "What is the weather in Paris?": ("get_weather", r"Paris"),
    "北京现在天气怎么样？": ("get_weather", r"北京|(?i:beijing)"),
    "Read the file src/app.py and tell me what it does.": ("read_file", r"src/app\.py"),
    "What is in README.md?": ("read_file", r"README\.md"),
    "Which files are in the folder tests?": ("list_files", r"tests"),
    "Run the command 'git status'.": ("run_command", r"git status"),
    "Hello": ("", ""),
    "What is 2 plus 2?": ("", r"\b4\b|four"),
    "What is the capital of France?": ("", r"Paris"),
    "Write a haiku about the sea.": ("", r"(?i)sea|wave|ocean"),
}
"""What is asked with `TOOLS` on offer: the function that must be called, and a pattern of its arguments; without one, of the text."""
