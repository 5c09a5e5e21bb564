#!/usr/bin/env python3
"""Goldens for tests/data/deepseek_records_test.cpp: conversations as DeepSeek's own encoders write them.

V3.2 and V4 bring an encoder in Python and its cases in their model repositories (encoding/, MIT); vLLM's
sdist carries both. The published cases of one screen are stored as they are, their text is asserted to be
what the encoder writes; the two long ones of V3.2 (pages found by a search) go to a file of their own, if
one is named, for a run of the test with RETORT_LONG_CASES. The other conversations are our own. Each has
the text of the whole and, for every answer, that of its prompt.
Run: pip download --no-deps --no-binary :all: --no-clean vllm   # keeps its folder, whatever the build says
     third_party/peers/bin/python tools/golden/deepseek_chat.py THAT_FOLDER [LONG_CASES.json]
"""
import copy
import importlib.util
import json
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def encoder(folder: pathlib.Path, name: str):
    sys.modules.setdefault("regex", re)  # which it imports and does not use here
    spec = importlib.util.spec_from_file_location(name, folder / f"vllm/tokenizers/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_published_words(module, output: str):
    """vLLM's copy of V3.2's encoder has lost the empty lines of the text on tools, which all published
    outputs have: the text is theirs."""
    begin, end = output.index("## Tools"), output.index("<functions>\n") + len("<functions>\n")
    words = output[begin:end].replace("｜DSML｜", "{dsml_token}")
    for mark, name in (("<think>", "{thinking_start_token}"), ("</think>", "{thinking_end_token}")):
        words = words.replace(mark, name)
    module.TOOLS_SYSTEM_TEMPLATE = words + "{tool_schemas}\n</functions>\n"
    return module


def tool(name: str, **properties) -> dict:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": 'Says "é"\n and more',
            "parameters": {"type": "object", "properties": properties},
        },
    }


def call(name: str, arguments, number: int) -> dict:
    return {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def result(number: int, text: str) -> dict:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": text}


system, user, more = (
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": "2 < 3?"},
    {"role": "user", "content": "And 日本語 🙂?\n"},
)
answer, thinks = (
    {"role": "assistant", "content": "Yes.\n"},
    {"role": "assistant", "reasoning_content": "2 is\nless", "content": "Yes."},
)
TOOLS = [tool("f", x={"type": "integer", "default": -1}), tool("g")]
arguments = {"s": "a\nb", "n": 3, "deep": {"z": [1, None, True, 0.5], "a": "<b>"}, "e": [], "é": "ü"}
calls = {
    "role": "assistant",
    "content": "I look.",
    "reasoning_content": "Hm.",
    "tool_calls": [call("f", json.dumps(arguments), 1), call("g", {}, 2)],
}
no_thought = {key: value for key, value in calls.items() if key != "reasoning_content"}
schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": {"required": ["hex"]}}}
BOTH = {
    "one": ([user, thinks], None),
    "two": ([system, user, thinks, more, thinks], None),
    "no system, tools": ([user, thinks, more, thinks], TOOLS),
    "calls": ([system, user, calls, result(1, "r1"), result(2, "r2"), thinks, more, thinks], TOOLS),
    "calls, no tools": ([user, calls, result(1, "r1"), result(2, "r2"), thinks, more, thinks], None),
    "call at the end": ([user, calls], TOOLS),
    "calls without a thought": ([user, no_thought, result(1, "r1"), result(2, "r2"), thinks], TOOLS),
    "two users": ([user, more, thinks], None),
    "two systems": ([system, user, thinks, system, more, thinks], None),
    "developer": (
        [{"role": "developer", "content": "Say.", "tools": TOOLS, "response_format": schema}, thinks],
        None,
    ),
    "response format": ([{**system, "response_format": schema}, user, thinks], TOOLS),
}
ONLY_V4 = {
    "results in another order": ([user, calls, result(2, "r2"), result(1, "r1"), thinks], TOOLS),
    "user behind results": ([user, calls, result(2, "r2"), more, result(1, "r1"), user, thinks], TOOLS),
    "one result of two": ([user, calls, result(2, "r2"), thinks], TOOLS),
    "no thought": ([user, answer], None),
    "task": ([user, thinks, {**more, "task": "query"}, answer], None),
    "task of an answer": ([user, {**thinks, "task": "title"}, answer], None),
    "action": ([system, {**user, "task": "action"}, answer], None),
    "goes on": ([user, {**answer, "wo_eos": True}], None),
    "reminder": ([system, {"role": "latest_reminder", "content": "It is noon."}, user, thinks], TOOLS),
}


def texts(encode, messages: list, tools, thinking: bool) -> dict:
    """The text of the whole and, for each answer, how many bytes of it its prompt begins with, and what
    follows them there. No text where the encoder refuses."""
    messages = copy.deepcopy(messages)
    if tools:
        if messages[0]["role"] not in ("system", "developer"):
            messages.insert(0, {"role": "system"})
        messages[0]["tools"] = tools
    for message in messages:
        if "reasoning_content" in message:
            message["reasoning"] = message.pop("reasoning_content")
    mode = "thinking" if thinking else "chat"
    try:
        whole = encode(messages, thinking_mode=mode)
    except (ValueError, AssertionError):
        return {"text": None, "prompts": []}
    prompts = []
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = encode(copy.deepcopy(messages[:i]), thinking_mode=mode)
            shared = len(os.path.commonprefix([prompt, whole]).encode())
            prompts.append([shared, prompt.encode()[shared:].decode()])
    return {"text": whole, "prompts": prompts}


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    v32 = folder / "rust/src/chat/src/renderer/deepseek_v32/fixtures"
    developer = (v32 / "test_output_developer_tools.txt").read_text().rstrip("\n")
    encoders = {
        "deepseek-v3.2": with_published_words(encoder(folder, "deepseek_v32_encoding"), developer),
        "deepseek-v4": encoder(folder, "deepseek_v4_encoding"),
    }
    v4 = folder / "tests/tokenizers_/fixtures/deepseek_v4"
    cases, long = [], []

    def add(name: str, template: str, thinking: bool, messages: list, tools, published=None) -> None:
        found = texts(encoders[template].encode_messages, messages, tools, thinking)
        if published is not None:
            assert found["text"] == published, name
        record = {"messages": messages, **({"tools": tools} if tools else {})}
        cases.append(
            {
                "name": name,
                "template": template + ("-thinking" if thinking else ""),
                "record": record,
                **found,
            }
        )

    first = json.loads((v32 / "test_input.json").read_text())
    add("published", "deepseek-v3.2", True, first["messages"], first["tools"])
    given = json.loads((v32 / "test_input_developer_tools.json").read_text())["messages"]
    add("published, developer", "deepseek-v3.2", True, given, None, developer)
    for which in ("wo", "w"):  # too long to be kept
        given = json.loads((v32 / f"test_input_search_{which}_date.json").read_text())["messages"]
        published = (v32 / f"test_output_search_{which}_date.txt").read_text().rstrip("\n")
        found = texts(encoders["deepseek-v3.2"].encode_messages, given, None, True)
        assert found["text"] == published, which
        long.append(
            {
                "name": f"published, search {which} date",
                "template": "deepseek-v3.2-thinking",
                "record": {"messages": given},
                **found,
            }
        )
    for number, thinking in ((1, True), (2, True), (3, True), (4, False)):
        given = json.loads((v4 / f"test_input_{number}.json").read_text())
        given = given if isinstance(given, dict) else {"messages": given}
        for message in given["messages"]:
            if "reasoning" in message:  # vLLM's word
                message["reasoning_content"] = message.pop("reasoning")
        add(
            f"published {number}",
            "deepseek-v4",
            thinking,
            given["messages"],
            given.get("tools"),
            (v4 / f"test_output_{number}.txt").read_text(),
        )
    for template, own in (("deepseek-v3.2", BOTH), ("deepseek-v4", {**BOTH, **ONLY_V4})):
        for name, (messages, tools) in own.items():
            for thinking in (False, True):
                # The mode without thoughts is refused records that have some.
                plain = [{k: v for k, v in m.items() if k != "reasoning_content"} for m in messages]
                add(name, template, thinking, messages if thinking else plain, tools)
    # The words on tools are stored once, but for the published cases.
    words = {}
    for module, name in (
        (encoders["deepseek-v3.2"], "TOOLS_SYSTEM_TEMPLATE"),
        (encoders["deepseek-v4"], "TOOLS_TEMPLATE"),
    ):
        marks = {
            mark: getattr(module, mark)
            for mark in ("dsml_token", "thinking_start_token", "thinking_end_token")
        }
        words[f"(words {len(words) + 1})"] = getattr(module, name).split("{tool_schemas}")[0].format(**marks)
    for case in cases:
        for mark, text in words.items():
            if not case["name"].startswith("published"):
                case["text"] = case["text"] and case["text"].replace(text, mark)
                case["prompts"] = [[shared, rest.replace(text, mark)] for shared, rest in case["prompts"]]
    out = ROOT / "tests/golden/chat/deepseek.json"
    version = next(
        line for line in (folder / "PKG-INFO").read_text().splitlines() if line.startswith("Version: ")
    )
    out.write_text(
        json.dumps(
            {
                "made_with": f"vllm {version[9:]}'s copies of DeepSeek's encoders",
                "words": words,
                "cases": cases,
            },
            ensure_ascii=False,
            indent=None,
            separators=(",", ":"),
        )
        + "\n"
    )
    if len(sys.argv) > 2:
        pathlib.Path(sys.argv[2]).write_text(json.dumps({"cases": long}, ensure_ascii=False))
    print(f"{len(cases)} cases, {out.stat().st_size} bytes")


main()
