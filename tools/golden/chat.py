#!/usr/bin/env python3
"""Goldens for tests/text: six dialogues rendered by jinja2 from the templates that released checkpoints
carry.

The templates come with trl (chat_templates/*.jinja); those it lacks (SmolLM2, Mistral, Qwen2, DeepSeek-V3)
are read from a GGUF or written below as the model cards give them. Only the rendered text is stored. With
--gguf also SmolLM2's ids and answer masks.
Run: third_party/peers/bin/python tools/golden/chat.py
"""
import argparse
import hashlib
import json
import pathlib

import jinja2
import jinja2.sandbox
import transformers
import trl

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIALOGUES = [
    [("user", "What is the capital of France?"), ("assistant", "Paris.")],
    [("system", "Answer in one word."), ("user", "Colour of snow?"), ("assistant", "White")],
    [("user", "2 + 2?"), ("assistant", "4"), ("user", "times 3?"), ("assistant", "12")],
    [("system", "  Be kind. "), ("user", " spaces around \n"), ("assistant", "kept or trimmed ")],
    [("user", "Grüße, 你好 👋🏽"), ("assistant", "Γειά σου\n\nline two\n")],
    [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d\n```\ncode\n```")],
]
# Template texts that trl does not bring.
OWN = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "qwen2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}",
    "mistral-v1": "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}"
    "{%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}"
    "{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
    "{%- if loop.first and system_message is defined %}"
    "{{- ' [INST] ' + system_message + '\n\n' + message['content'] + ' [/INST]' }}"
    "{%- else %}{{- ' [INST] ' + message['content'] + ' [/INST]' }}{%- endif %}{%- else %}"
    "{{- ' ' + message['content'] + eos_token }}{%- endif %}{%- endfor %}",
    # v3 writes the system text into the last user turn, and only when that turn ends the conversation: render
    # prompts with it.
    "mistral-v3": "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}"
    "{%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}"
    "{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
    "{%- if loop.last and system_message is defined %}"
    "{{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}{%- else %}"
    "{{- ' ' + message['content']|trim + eos_token }}{%- endif %}{%- endfor %}",
    "mistral-v3-tekken": "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}"
    "{%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}"
    "{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
    "{%- if loop.last and system_message is defined %}"
    "{{- '[INST]' + system_message + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST]' + message['content'] + '[/INST]' }}{%- endif %}{%- else %}"
    "{{- message['content'] + eos_token }}{%- endif %}{%- endfor %}",
    "mistral-v7": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% elif message['role'] == 'system' %}{{ '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}",
}
TRL = {
    "llama3": "llama3",
    "llama3.1": "llama3_1",
    "qwen2.5": "qwen2_5",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma3": "gemma3",
    "phi3": "phi3",
    "deepseek-r1": "deepseekv3",
}
BOS = {
    "llama2": "<s>",
    "llama3": "<|begin_of_text|>",
    "llama3.1": "<|begin_of_text|>",
    "gemma": "<bos>",
    "gemma3": "<bos>",
    "deepseek-r1": "<｜begin▁of▁sentence｜>",
    "deepseek-v3": "<｜begin▁of▁sentence｜>",
}


def render(source, name, messages, header):
    # The environment that transformers' apply_chat_template uses.
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def fail(message):
        raise jinja2.TemplateError(message)

    env.globals["raise_exception"] = fail
    extra = {"enable_thinking": False} if name == "qwen3" else {}
    bos, eos = ("<s>" if name.startswith("mistral") else BOS.get(name, "")), (
        "</s>" if name.startswith(("mistral", "llama2")) else "<EOS>"
    )
    return env.from_string(source).render(
        messages=messages, add_generation_prompt=header, bos_token=bos, eos_token=eos, **extra
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", default=str(ROOT / "checkpoints/smollm2-135m-instruct-q4_1.gguf"))
    parser.add_argument("--out", default=str(ROOT / "tests/golden/chat"))
    arguments = parser.parse_args()
    templates = pathlib.Path(trl.__file__).parent / "chat_templates"
    sources = dict(OWN)
    sources.update({name: (templates / f"{file}.jinja").read_text() for name, file in TRL.items()})
    sources["deepseek-v3"] = sources["deepseek-r1"].replace(
        "<｜Assistant｜><think>\\n'}}{% endif %}", "<｜Assistant｜>'}}{% endif %}"
    )
    assert sources["deepseek-v3"] != sources["deepseek-r1"]
    from gguf import GGUFReader

    reader = GGUFReader(arguments.gguf)
    sources["smollm2"] = reader.fields["tokenizer.chat_template"].contents()

    cases = []
    for name, source in sorted(sources.items()):
        for number, dialogue in enumerate(DIALOGUES):
            messages = [{"role": role, "content": text} for role, text in dialogue]
            for header in (False, True):
                given = messages[:-1] if header else messages
                if (
                    not header
                    and name in ("mistral-v3", "mistral-v3-tekken")
                    and messages[0]["role"] == "system"
                ):
                    continue  # the reference drops the system text here
                try:
                    text = render(source, name, given, header)
                except jinja2.TemplateError as error:
                    text = None
                cases.append({"template": name, "dialogue": number, "header": header, "text": text})
    golden = {
        "made_by": "tools/golden/chat.py",
        "jinja2": jinja2.__version__,
        "trl": trl.__version__,
        "source_sha256": {
            name: hashlib.sha256(source.encode()).hexdigest() for name, source in sources.items()
        },
        "dialogues": [[{"role": role, "content": text} for role, text in dialogue] for dialogue in DIALOGUES],
        "cases": cases,
    }
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rendered.json").write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")

    # Ids and answer masks of SmolLM2. {% generation %} marks what an assistant message contributes.
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(pathlib.Path(arguments.gguf).parent), gguf_file=pathlib.Path(arguments.gguf).name
    )
    marked = (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n'}}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
        "{% endgeneration %}{% else %}"
        "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    rows = []
    for dialogue in DIALOGUES:
        messages = [{"role": role, "content": text} for role, text in dialogue]
        plain = tokenizer.apply_chat_template(
            messages, chat_template=sources["smollm2"], tokenize=True, return_dict=True
        )
        masked = tokenizer.apply_chat_template(
            messages, chat_template=marked, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert plain["input_ids"] == masked["input_ids"]
        prompt = tokenizer.apply_chat_template(
            messages[:-1],
            chat_template=sources["smollm2"],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
        )
        rows.append(
            {"ids": plain["input_ids"], "mask": masked["assistant_masks"], "prompt_ids": prompt["input_ids"]}
        )
    golden = {
        "made_by": "tools/golden/chat.py",
        "transformers": transformers.__version__,
        "dialogues": golden["dialogues"],
        "rows": rows,
    }
    (out / "smollm2_tokens.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    print(len(cases), "rendered texts,", len(rows), "token rows")


if __name__ == "__main__":
    main()
