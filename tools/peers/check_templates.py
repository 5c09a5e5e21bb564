#!/usr/bin/env python3
"""check_templates.py [--show NAME]: renders conversations with every template of third_party/jinja/templates
here and in transformers, and compares the bytes. Each pair is equal, refused by both, refused here (the
record is named and nothing is learned), rendered here alone (transformers cannot), or wrong: another text.
Where transformers' sandbox forbids a list to grow, Jinja without that rule is asked. Exits 1 when one is
wrong."""
import datetime
import json
import pathlib
import subprocess
import sys

import jinja2.sandbox
import tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>", "pad_token": "<PAD>", "unk_token": "<UNK>"}
DAY = datetime.datetime(2024, 7, 26, 12)

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather "now" in a city – é\n2 lines',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City's name"},
                "days": {"type": "integer", "default": 3},
            },
            "required": ["city"],
        },
    },
}
PLAIN_TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "The time",
        "parameters": {"type": "object", "properties": {}},
    },
}


def call(name, arguments, number):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


user, other = {"role": "user", "content": "What is 2 < 3? "}, {
    "role": "user",
    "content": 'And "Zürich"\n\n日本語 🙂?',
}
system = {"role": "system", "content": "Be brief.\n"}
answer, last = {"role": "assistant", "content": "Yes.\n"}, {"role": "assistant", "content": " It's a city "}
thinks = {"role": "assistant", "reasoning_content": "2 is\nless", "content": "Yes."}
inside = {"role": "assistant", "content": "<think>\n2 is less\n</think>\n\nYes."}
one_call = {
    "role": "assistant",
    "content": "",
    "tool_calls": [call("get_weather", {"city": "Zürich", "days": 2}, 1)],
}
says_and_calls = {
    "role": "assistant",
    "content": "I look.",
    "tool_calls": [call("get_weather", {"city": "Bern"}, 1)],
}
two_calls = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        call("get_weather", {"city": "O'Hare", "deep": {"z": [1, None, True, 0.5], "a": "<b>"}}, 1),
        call("now", {}, 2),
    ],
}
text_call = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", '{"city": "Bern"}', 1)]}
thinks_and_calls = {**one_call, "reasoning_content": "Let me look."}
result = {
    "role": "tool",
    "tool_call_id": "call00001",
    "name": "get_weather",
    "content": '{"degrees": 21, "sky": "klar"}',
}
result2 = {"role": "tool", "tool_call_id": "call00002", "name": "now", "content": "12:00"}

PLAIN = {
    "user": [user],
    "talk": [user, answer],
    "talks": [user, answer, other, last],
    "system": [system, user, answer],
    "system, talks": [system, user, answer, other, last, user],
    "empty": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
    "developer": [{"role": "developer", "content": "Be brief."}, user, answer],
    "two users": [user, other, answer],
    "assistant first": [answer, user],
    "system last": [user, answer, system],
}
THOUGHTS = {
    "thought": [user, thinks],
    "thoughts": [user, thinks, other, thinks, user],
    "thought inside": [user, inside, other, inside],
}
TOOLS = {
    "tools": [user, answer],
    "call": [user, one_call],
    "call, result": [system, user, one_call, result, answer],
    "speaks, calls": [user, says_and_calls, result, answer, other],
    "calls": [user, two_calls, result, result2, last],
    "arguments as a text": [user, text_call, result, answer],
    "thinks, calls": [user, thinks_and_calls, result, thinks],
}


def jobs():
    for group, beside in (
        (PLAIN, {}),
        (THOUGHTS, {}),
        (THOUGHTS, {"enable_thinking": False}),
        (THOUGHTS, {"enable_thinking": True}),
        (TOOLS, {"tools": [TOOL, PLAIN_TOOL]}),
        (TOOLS, {"tools": [TOOL], "enable_thinking": False}),
    ):
        told = json.dumps({key: value for key, value in beside.items() if key != "tools"}) if beside else ""
        for name, messages in group.items():
            for header in (False, True):
                yield {
                    "name": f"{name} {told}{' +header' if header else ''}",
                    "messages": messages,
                    "beside": beside,
                    "header": header,
                }


def theirs(source, job, growing=False):
    messages = json.loads(json.dumps(job["messages"]))
    values = {"tools": None, "documents": None, **json.loads(json.dumps(job["beside"]))}
    try:
        return {
            "text": compiled(source, growing).render(
                messages=messages,
                add_generation_prompt=job["header"],
                strftime_now=DAY.strftime,
                **values,
                **TOKENS,
            )
        }
    except Exception as problem:  # whatever a template makes Python say
        if "is unsafe" in str(problem) and not growing:
            return theirs(source, job, growing=True)
        return {"problem": str(problem)}


def compiled(source, growing):
    template = _compile_jinja_template(source)
    if not growing:
        return template
    environment = template.environment.overlay()
    environment.__class__ = type("Growing", (jinja2.sandbox.SandboxedEnvironment,), {})
    return environment.from_string(source)


def check_named() -> list:
    """A model of three templates: which one transformers takes, and what that writes, is what is written
    here."""
    folder = ROOT / "third_party/jinja/templates"
    chatml = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    named = {
        "default": chatml + "{# plain #}",
        "tool_use": (folder / "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja").read_text(
            encoding="utf-8"
        ),
        "rag": "{{ bos_token }}rag: " + chatml,
    }
    jobs = [
        {"template": name, "what": what, "messages": messages, "beside": beside, "header": header}
        for group, beside in ((PLAIN, {}), (TOOLS, {"tools": [TOOL, PLAIN_TOOL]}))
        for what, messages in group.items()
        if messages[-1]["role"] == "assistant" and messages[0]["role"] != "developer"
        for name in ("auto", *named)
        for header in (False,)
    ]
    done = subprocess.run(
        [ROOT / "build/release/tools/peers/render_template"],
        input=(json.dumps({"named": named, "tokens": TOKENS, "jobs": jobs}) + "\n").encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()), **TOKENS
    )
    tokenizer.chat_template = named
    wrong, equal = [], 0
    for job, ours in zip(jobs, json.loads(done.stdout)):
        try:
            wanted = tokenizer.apply_chat_template(
                job["messages"],
                tools=job["beside"].get("tools"),
                chat_template=None if job["template"] == "auto" else job["template"],
                tokenize=False,
            )
        except Exception:  # whatever a template makes Python say
            wanted = None
        # Refused here: what a template would leave out without a word.
        equal += ours.get("text") == wanted
        if "text" in ours and ours["text"] != wanted:
            wrong.append(("named templates", f"{job['template']}: {job['what']}"))
    print(f"named templates: {equal} of {len(jobs)} equal, {len(wrong)} wrong, others refused here")
    return wrong


def main():
    shown = sys.argv[2] if len(sys.argv) > 2 else None
    every = list(jobs())
    files = sorted((ROOT / "third_party/jinja/templates").glob("*.jinja"))
    lines = "".join(
        json.dumps({"source": file.read_text(encoding="utf-8"), "tokens": TOKENS, "jobs": every}) + "\n"
        for file in files
    )
    done = subprocess.run(
        [ROOT / "build/release/tools/peers/render_template"],
        input=lines.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    counts = {"equal": 0, "refused by both": 0, "refused here": 0, "rendered here alone": 0, "wrong": 0}
    whole, wrong = 0, check_named()
    for file, line in zip(files, done.stdout.decode().splitlines()):
        source = file.read_text(encoding="utf-8")
        of_file = dict.fromkeys(counts, 0)
        for job, ours in zip(every, json.loads(line)):
            wanted = theirs(source, job)
            kind = (
                "equal"
                if ours.get("text") == wanted.get("text") and "text" in ours
                else "refused by both"
                if "problem" in ours and "problem" in wanted
                else "refused here"
                if "problem" in ours
                else "rendered here alone"
                if "problem" in wanted
                else "wrong"
            )
            of_file[kind] += 1
            if kind == "wrong":
                wrong.append((file.name, job["name"]))
            if shown and shown in file.name and kind not in ("equal", "refused by both"):
                print(f"--- {file.name}: {job['name']}: {kind}\nhere   {ours!r}\nthere  {wanted!r}")
        for kind, count in of_file.items():
            counts[kind] += count
        differing = sum(of_file.values()) - of_file["equal"] - of_file["refused by both"]
        whole += differing == 0
        if differing:
            print(f"{file.name}: {', '.join(f'{count} {kind}' for kind, count in of_file.items() if count)}")
    for name, job in wrong[:40]:
        print(f"wrong: {name}: {job}")
    print(
        f"{len(files)} templates with {len(every)} conversations each: "
        f"{', '.join(f'{count} {kind}' for kind, count in counts.items())}; "
        f"{whole} templates equal or refused by both throughout"
    )
    return 1 if wrong else 0


sys.exit(main())
