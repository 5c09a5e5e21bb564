"""40 faults of recipes, data and model files, each as somebody reported it of a fine-tuning program, and 30
good recipes. planted_test.py gives them to retort, tools/peers/check_planted.py to TRL and Axolotl too."""
import collections.abc
import dataclasses
import gzip
import json
import pathlib
import shutil

import planted_model as tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNT = 24


class Place:
    """The folder of one trial: samples.jsonl and the model, and what a fault makes of them."""

    def __init__(self, folder, model):
        self.folder = folder
        folder.mkdir(parents=True)
        self.model = tiny.copy_of(model, folder / "model")
        self.write("samples.jsonl", lines(pairs()))

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def change(self, name, change):
        """A JSON file of the model, changed."""
        path = self.model / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    def weights(self, content):
        (self.model / "model.safetensors").write_bytes(content)


def nothing(_):
    """A trial that plants no file."""


@dataclasses.dataclass
class Fault:
    """`recipe`: keys of retort's recipe; `text`: or a change of its text; `plant`: changes files. `says`:
    words of the error line. `trl`, `axolotl`, `factory`: the same for them (the last is LLaMA-Factory), None
    where they have no counterpart; of TRL `args` are SFTConfig's, `lora` LoraConfig's (None: no adapter)."""

    name: str
    report: str
    what: str
    says: str
    recipe: dict = dataclasses.field(default_factory=dict)
    text: collections.abc.Callable = lambda text: text
    plant: collections.abc.Callable = nothing
    trl: dict | None = None
    axolotl: dict | None = None
    factory: dict | None = None


@dataclasses.dataclass
class Good:
    """A recipe that must pass; `trl`, `axolotl` and `factory` as of a Fault."""

    name: str
    recipe: dict = dataclasses.field(default_factory=dict)
    plant: collections.abc.Callable = nothing
    text: collections.abc.Callable = lambda text: text
    trl: dict | None = None
    axolotl: dict | None = None
    factory: dict | None = None


def question(i):
    return f"How long may swarm {i} wait at door {i % 5}?"


def answer(i):
    return f"About {i + 2} days, as the house rules of year {1990 + i} say."


def pairs():
    return [{"prompt": question(i), "completion": answer(i)} for i in range(COUNT)]


def talks(extra=None):
    return [
        {
            "messages": [
                {"role": "user", "content": question(i)},
                {"role": "assistant", "content": answer(i)} | (extra(i) if extra else {}),
            ]
        }
        for i in range(COUNT)
    ]


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


BASE = {
    "model.path": "model",
    "data.sources": [{"path": "samples.jsonl"}],
    "data.held_out.count": 4,
    "data.sample_tokens": 256,
    "adapter.kind": "lora",
    "adapter.rank": 4,
    "train.steps": 4,
    "train.threads": 1,
    "train.batch.samples": 4,
    "run.folder": "run",
}


def recipe_text(keys):
    """A section a line; JSON is YAML's flow style. A key of None leaves out what BASE has."""
    tree = {}
    for path, value in (BASE | keys).items():
        if value is None:
            continue
        *above, last = path.split(".")
        at = tree
        for name in above:
            at = at.setdefault(name, {})
        at[last] = value
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in tree.items())


def source(**keys):
    return {"data.sources": [{"path": "samples.jsonl"} | keys]}


def samples(records, name="samples.jsonl"):
    return lambda place: place.write(name, lines(records))


def text_file(name, content):
    return lambda place: place.write(name, content)


LFS = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 269060552\n"
)
ALTERNATE = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ENDLESS = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def cut_weights(place):
    content = (place.model / "model.safetensors").read_bytes()
    place.weights(content[: len(content) * 2 // 3])


def missing_shard(place):
    (place.model / "model.safetensors").rename(place.model / "model-00001-of-00002.safetensors")
    names = list(tiny.tensors())
    index = {
        name: "model-00001-of-00002.safetensors"
        if "layers.1" not in name
        else "model-00002-of-00002.safetensors"
        for name in names
    }
    (place.model / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


def swap_template(template):
    return lambda place: place.change("tokenizer_config.json", lambda _: tiny.tokenizer_config(template))


def both(*plants):
    def plant(place):
        for each in plants:
            each(place)

    return plant


def torn(records):
    text = lines(records).splitlines(keepends=True)
    text[12] = text[12].replace('", "', '" "', 1)  # the comma is gone
    return "".join(text)


def with_tools(records):
    call = {"type": "function", "function": {"name": "days", "arguments": {"swarm": 3}}}
    described = {
        "type": "function",
        "function": {
            "name": "days",
            "description": "how long",
            "parameters": {"type": "object", "properties": {}},
        },
    }
    return [
        {
            "messages": [
                {"role": "user", "content": question(i)},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": str(i + 2)},
                {"role": "assistant", "content": answer(i)},
            ],
            "tools": [described],
        }
        for i in range(len(records))
    ]


def cut_table(place):
    content = (ROOT / "tests/golden/tables/snappy.parquet").read_bytes()
    place.write("samples.parquet", content[: len(content) // 2])


GITHUB = "https://github.com/"
CSV = "question,answer\n" + "".join(f'"{question(i)}","{answer(i)}"\n' for i in range(COUNT))
COLUMNS = {"prompt": "{question}", "completion": "{answer}"}
CSV_SOURCE = {"data.sources": [{"path": "samples.csv"} | COLUMNS]}
CHATS = {"data": "samples.jsonl"}

FAULTS = [
    Fault(
        "misspelt key",
        GITHUB + "MakazhanAlpamys/Soup/issues/627",
        "adapter.alhpa: 16",
        "adapter.alhpa: unknown key",
        recipe={"adapter.alhpa": 16},
        trl={"lora": {"lora_alhpa": 16}},
        axolotl={"lora_alhpa": 16},
        factory={"lora_alhpa": 16},
    ),
    Fault(
        "key in another section",
        GITHUB
        + "aws-solutions-library-samples/accelerated-intelligent-document-processing-on-aws/issues/1134",
        "the learning rate one level too high",
        "train.learning_rate: unknown key",
        recipe={"train.learning_rate": 1e-3},
        trl={"lora": {"learning_rate": 1e-3}},
        axolotl={"datasets": [{"path": "samples.jsonl", "type": "alpaca", "learning_rate": 1e-3}]},
    ),
    Fault(
        "key twice",
        GITHUB + "snowflakedb/ArcticTraining/issues/85",
        "sample_tokens: 256, then sample_tokens: 128",
        "sample_tokens",
        text=lambda text: text.replace('"sample_tokens": 256', '"sample_tokens": 256, "sample_tokens": 128'),
        trl={"yaml": "output_dir: out\nmax_length: 256\nmax_length: 128\n"},
        axolotl={"yaml": "sequence_len: 256\nsequence_len: 128\n"},
        factory={"yaml": "cutoff_len: 256\ncutoff_len: 128\n"},
    ),
    Fault(
        "rank 0",
        GITHUB + "strands-labs/robots/pull/1962",
        "a LoRA of rank 0",
        "adapter.rank: expected a whole number from 1",
        recipe={"adapter.rank": 0},
        trl={"lora": {"r": 0}},
        axolotl={"lora_r": 0},
        factory={"lora_rank": 0},
    ),
    Fault(
        "negative alpha",
        GITHUB + "strands-labs/robots/pull/1962",
        "the update has the other sign",
        "adapter.alpha",
        recipe={"adapter.alpha": -8},
        trl={"lora": {"lora_alpha": -8}},
        axolotl={"lora_alpha": -8},
        factory={"lora_alpha": -8},
    ),
    Fault(
        "targets of another family",
        GITHUB + "OptimalScale/LMFlow/issues/125",
        "query_key_value in a model that has q_proj",
        "query_key_value",
        recipe={"adapter.targets": ["query_key_value"]},
        trl={"lora": {"target_modules": ["query_key_value"]}},
        axolotl={"lora_target_modules": ["query_key_value"]},
        factory={"lora_target": "query_key_value"},
    ),
    Fault(
        "unknown optimizer",
        GITHUB + "huggingface/transformers/issues/31651",
        "a name that no optimizer has",
        "train.optimizer.kind",
        recipe={"train.optimizer.kind": "adamw_tourch"},
        trl={"args": {"optim": "adamw_tourch"}},
        axolotl={"optimizer": "adamw_tourch"},
        factory={"optim": "adamw_tourch"},
    ),
    Fault(
        "no records",
        GITHUB + "bitsandbytes-foundation/bitsandbytes/issues/135",
        "the file of samples is empty",
        "samples.jsonl",
        plant=text_file("samples.jsonl", ""),
        trl=CHATS,
    ),
    Fault(
        "warm-up longer than the run",
        GITHUB + "gaoyixu/CAIL2020-Argument-Mining/issues/1",
        "100 steps of warm-up in a run of 4",
        "warmup_steps",
        recipe={"train.schedule.warmup_steps": 100},
        trl={"args": {"warmup_steps": 100}},
        axolotl={"warmup_steps": 100, "max_steps": 4},
        factory={"warmup_steps": 100, "max_steps": 4},
    ),
    Fault(
        "the best of no evaluations",
        GITHUB + "huggingface/transformers/issues/12685",
        "keep_best, and nothing is held out",
        "keep_best",
        recipe={"train.evaluate.keep_best": True, "data.held_out.count": None, "data.held_out.fraction": 0},
        trl={"args": {"load_best_model_at_end": True, "save_strategy": "steps", "eval_strategy": "no"}},
        axolotl={"load_best_model_at_end": True, "val_set_size": 0.0},
        factory={"load_best_model_at_end": True, "eval_strategy": "no", "val_size": 0.0},
    ),
    Fault(
        "a metric that nothing computes",
        GITHUB + "hiyouga/LlamaFactory/issues/7906",
        "the best is chosen, or the run judged, by a score without a task",
        "gate[0].metric",
        recipe={"eval.tasks": [{"kind": "perplexity"}], "gate": [{"metric": "f1.macro", "at_least": 0.5}]},
        trl={
            "args": {
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_f1",
                "eval_strategy": "steps",
                "save_strategy": "steps",
                "eval_steps": 2,
                "save_steps": 2,
            },
            "evaluate": True,
        },
        axolotl={
            "metric_for_best_model": "eval_f1",
            "load_best_model_at_end": True,
            "eval_steps": 2,
            "save_steps": 2,
        },
        factory={
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_f1",
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_steps": 2,
        },
    ),
    Fault(
        "nothing left to train on",
        GITHUB + "hiyouga/LlamaFactory/issues/3119",
        "as many samples held out as there are",
        "held",
        recipe={"data.held_out.count": COUNT},
    ),
    Fault(
        "full training of 4 bits",
        GITHUB + "unslothai/unsloth/issues/1110",
        "every weight is to be trained, and the base is held as nf4",
        "nf4",
        recipe={"adapter.kind": "full", "adapter.rank": None, "model.weights": "nf4"},
        trl={"lora": None, "four_bits": True},
        axolotl={"adapter": None, "load_in_4bit": True},
        factory={"finetuning_type": "full", "quantization_bit": 4},
    ),
    Fault(
        "no tokenizer",
        GITHUB + "FreedomIntelligence/GrammarGPT/issues/3",
        "a folder of weights alone",
        "tokenizer",
        plant=lambda place: [path.unlink() for path in place.model.glob("tokenizer*")],
        trl={},
    ),
    Fault(
        "weights are a Git LFS pointer",
        GITHUB + "microsoft/OmniParser/issues/34",
        "cloned without git-lfs",
        "model.safetensors",
        plant=lambda place: place.weights(LFS.encode()),
        trl={},
    ),
    Fault(
        "weights cut short",
        GITHUB + "QwenLM/Qwen/issues/462",
        "a download that ended early",
        "model.safetensors",
        plant=cut_weights,
        trl={},
    ),
    Fault(
        "a shard is missing",
        GITHUB + "hiyouga/LlamaFactory/issues/3340",
        "the index names a file that is not there",
        "model-00002-of-00002.safetensors",
        plant=missing_shard,
        trl={},
    ),
    Fault(
        "config of other sizes",
        GITHUB + "hiyouga/LlamaFactory/issues/7062",
        "vocab_size is not the embedding's",
        "embed_tokens",
        plant=lambda place: place.change(
            "config.json", lambda config: config | {"vocab_size": tiny.VOCABULARY + 16}
        ),
        trl={},
    ),
    Fault(
        "more tokens than rows",
        GITHUB + "OpenRLHF/OpenRLHF/issues/87",
        "the tokenizer has a token that the embedding lacks, and the template writes it",
        "token",
        plant=both(
            lambda place: place.change("tokenizer.json", lambda _: tiny.tokenizer(["<|law|>"])),
            swap_template(tiny.CHATML.replace("<|im_start|>", "<|law|>")),
            samples(talks()),
        ),
        trl=CHATS,
    ),
    Fault(
        "weights are not numbers",
        GITHUB + "Rikorose/DeepFilterNet/issues/30",
        "a base that an earlier run left full of NaN",
        "not finite",
        plant=lambda place: place.weights(tiny.weights(not_numbers_in="model.layers.0.mlp.up_proj.weight")),
        trl={},
    ),
    Fault(
        "adapter of another base",
        GITHUB + "huggingface/peft/issues/276",
        "going on from a LoRA whose layers have other widths",
        "adapter",
        plant=lambda place: tiny.adapter(place.folder / "other", 48),
        recipe={"adapter.from": "other", "adapter.kind": None, "adapter.rank": None},
        trl={"adapter": "other"},
    ),
    Fault(
        "unknown type of export",
        GITHUB + "MervinPraison/PraisonAI/pull/3396",
        "q4km, found after hours of training",
        "export.gguf",
        recipe={"export.gguf": ["q4km"]},
    ),
    Fault(
        "chats and no chat template",
        GITHUB + "unslothai/unsloth/issues/2096",
        "a base model without one",
        "template",
        plant=both(swap_template(""), samples(talks())),
        trl=CHATS,
    ),
    Fault(
        "answers without an end",
        GITHUB + "huggingface/trl/issues/976",
        "the template ends no answer with a token: the model never stops",
        "end",
        plant=both(swap_template(ENDLESS), samples(talks())),
        trl=CHATS,
    ),
    Fault(
        "longer than the model reads",
        GITHUB + "TinyLLaVA/TinyLLaVA_Factory/issues/192",
        "samples of some 900 tokens, a context of 512",
        "512",
        recipe={"data.sample_tokens": 4096},
        plant=samples([{"prompt": question(i) * 24, "completion": answer(i)} for i in range(COUNT)]),
        trl=CHATS | {"args": {"max_length": 4096}},
    ),
    Fault(
        "answers cut away",
        GITHUB + "huggingface/trl/issues/6668",
        "prompts fill the row, so that no answer is left to learn",
        "sample_tokens",
        recipe={"data.sample_tokens": 64},
        plant=samples([{"prompt": question(i) * 3, "completion": answer(i)} for i in range(COUNT)]),
        trl=CHATS | {"args": {"max_length": 64}},
    ),
    Fault(
        "a line that is no JSON",
        GITHUB + "shibing624/MedicalGPT/issues/38",
        "a comma is missing in line 13",
        "samples.jsonl:13",
        plant=text_file("samples.jsonl", torn(pairs())),
        trl=CHATS,
    ),
    Fault(
        "text that is not UTF-8",
        GITHUB + "fatchord/WaveRNN/issues/168",
        "a CSV file saved as cp1252",
        "samples.csv",
        recipe=CSV_SOURCE,
        plant=text_file("samples.csv", CSV.replace("house", "maîtres’").encode("cp1252")),
        trl={"data": "samples.csv"},
    ),
    Fault(
        "column of another name",
        GITHUB + "axolotl-ai-cloud/axolotl/issues/618",
        "TEXT in the file, text in the recipe",
        "text",
        recipe={"data.sources": [{"path": "samples.csv", "prompt": "{text}", "completion": "{answer}"}]},
        plant=text_file("samples.csv", CSV.replace("question,", "TEXT,", 1)),
        trl={"data": "samples.csv", "args": {"dataset_text_field": "text"}, "as_it_is": True},
    ),
    Fault(
        "no answers at all",
        GITHUB + "huggingface/trl/issues/1225",
        "the conversations hold what users said, and nothing else",
        "samples.jsonl",
        plant=samples([{"messages": [{"role": "user", "content": question(i)}]} for i in range(COUNT)]),
        trl=CHATS,
    ),
    Fault(
        "empty answers",
        GITHUB + "axolotl-ai-cloud/axolotl/issues/290",
        "the answers of three records are empty",
        "samples.jsonl:",
        plant=samples([each | ({"completion": ""} if i % 8 == 5 else {}) for i, each in enumerate(pairs())]),
        trl=CHATS,
    ),
    Fault(
        "unknown speaker",
        GITHUB + "axolotl-ai-cloud/axolotl/issues/752",
        "ShareGPT's records with 'from: therapist'",
        "therapist",
        plant=samples(
            [
                {
                    "conversations": [
                        {"from": "human", "value": question(i)},
                        {"from": "therapist", "value": answer(i)},
                    ]
                }
                for i in range(COUNT)
            ]
        ),
        trl=CHATS,
    ),
    Fault(
        "turns out of order",
        GITHUB + "huggingface/smol-course/issues/260",
        "user, assistant, user, user, and a template that refuses it",
        "alternate",
        plant=both(
            swap_template(ALTERNATE),
            samples(
                [
                    each if i != 11 else {"messages": [each["messages"][0], *each["messages"]]}
                    for i, each in enumerate(talks())
                ]
            ),
        ),
        trl=CHATS,
    ),
    Fault(
        "rows of another length",
        GITHUB + "ludwig-ai/ludwig/issues/201",
        "a comma outside of quotes in a CSV file",
        "samples.csv:",
        recipe=CSV_SOURCE,
        plant=text_file(
            "samples.csv", CSV.replace('"About 9 days, ', "About 9 days, ").replace('1997 say."', "1997 say.")
        ),
        trl={"data": "samples.csv"},
    ),
    Fault(
        "a quote that is never closed",
        GITHUB + "pandas-dev/pandas/issues/22140",
        "the rest of a CSV file becomes one field",
        "samples.csv:",
        recipe=CSV_SOURCE,
        plant=text_file("samples.csv", CSV.replace('1997 say."\n', "1997 say.\n")),
        trl={"data": "samples.csv"},
    ),
    Fault(
        "half a Parquet file",
        GITHUB + "huggingface/datasets/issues/4077",
        "a download that ended early",
        "samples.parquet",
        recipe={"data.sources": [{"path": "samples.parquet", "prompt": "{text}", "completion": "{day}"}]},
        plant=cut_table,
        trl={"data": "samples.parquet", "args": {"dataset_text_field": "text"}, "as_it_is": True},
    ),
    Fault(
        "trained on what is held out",
        GITHUB + "OpenRLHF/OpenRLHF/issues/1089",
        "one file is trained on and judged by",
        "samples.jsonl",
        recipe={
            "data.sources": [
                {"path": "samples.jsonl", "use": "train"},
                {"path": "samples.jsonl", "use": "held_out"},
            ],
            "data.held_out.count": None,
        },
        trl={"data": "samples.jsonl", "evaluate": True},
        axolotl={
            "datasets": [{"path": "samples.jsonl", "type": "alpaca"}],
            "test_datasets": [{"path": "samples.jsonl", "type": "alpaca", "split": "train"}],
            "val_set_size": 0.0,
        },
        factory={"eval_dataset": "samples", "val_size": 0.0, "eval_strategy": "steps"},
    ),
    Fault(
        "calls of tools are dropped",
        GITHUB + "NVIDIA-NeMo/Megatron-Bridge/issues/4072",
        "the template writes neither tools nor their calls",
        "tool",
        plant=samples(with_tools(pairs())),
        trl=CHATS,
    ),
    Fault(
        "thoughts are dropped",
        GITHUB + "NVIDIA-NeMo/Automodel/issues/1640",
        "reasoning_content that the template does not read",
        "reasoning",
        plant=samples(talks(lambda i: {"reasoning_content": f"Swarm {i} came late."})),
        trl=CHATS,
    ),
    Fault(
        "preferences as answers",
        GITHUB + "hiyouga/LlamaFactory/issues/4717",
        "prompt, chosen and rejected, given to training on answers",
        "samples.jsonl",
        plant=samples(
            [{"prompt": question(i), "chosen": answer(i), "rejected": "No."} for i in range(COUNT)]
        ),
        trl=CHATS,
    ),
]


def folder_of_texts(place):
    for i in range(COUNT):
        place.write(f"texts/{i}.txt", question(i) + "\n\n" + answer(i) + "\n")


def sharegpt():
    return [
        {"conversations": [{"from": "human", "value": question(i)}, {"from": "gpt", "value": answer(i)}]}
        for i in range(COUNT)
    ]


def alpaca():
    return [
        {"instruction": question(i), "input": "" if i % 2 else "In days.", "output": answer(i)}
        for i in range(COUNT)
    ]


def teacher(place):
    shutil.copytree(place.model, place.folder / "teacher")


EVALUATED = {"eval.tasks": [{"kind": "completion", "max_tokens": 8}, {"kind": "perplexity"}]}

GOOD = [
    Good("as it is", trl={}, axolotl={}, factory={}),
    Good(
        "a rate as YAML 1.1 would misread it",  # hiyouga/LlamaFactory/issues/4149
        text=lambda text: text.replace('"steps": 4', '"steps": 4, "optimizer": {"learning_rate": 2e-4}'),
        trl={"yaml": "output_dir: out\nlearning_rate: 2e-4\n"},
        axolotl={"yaml": "learning_rate: 2e-4\n"},
        factory={"yaml": "learning_rate: 2e-4\n"},
    ),
    Good(
        "every weight",
        {"adapter.kind": "full", "adapter.rank": None},
        trl={"lora": None},
        axolotl={"adapter": None},
        factory={"finetuning_type": "full"},
    ),
    Good(
        "DoRA",
        {"adapter.kind": "dora"},
        trl={"lora": {"use_dora": True}},
        axolotl={"peft_use_dora": True},
        factory={"use_dora": True},
    ),
    Good(
        "rsLoRA with dropout",
        {"adapter.kind": "rslora", "adapter.dropout": 0.05},
        trl={"lora": {"use_rslora": True, "lora_dropout": 0.05}},
        axolotl={"peft_use_rslora": True, "lora_dropout": 0.05},
        factory={"use_rslora": True, "lora_dropout": 0.05},
    ),
    Good(
        "two targets and a norm",
        {"adapter.targets": ["q_proj", "down_proj"], "adapter.modules_to_save": ["norm"]},
        trl={"lora": {"target_modules": ["q_proj", "down_proj"], "modules_to_save": ["norm"]}},
        axolotl={"lora_target_modules": ["q_proj", "down_proj"], "lora_modules_to_save": ["norm"]},
        factory={"lora_target": "q_proj,down_proj", "additional_target": "norm"},
    ),
    Good(
        "4 bits under an adapter",
        {"model.weights": "nf4"},
        trl={"four_bits": True},
        axolotl={"adapter": "qlora", "load_in_4bit": True},
        factory={"quantization_bit": 4},
    ),
    Good("8 bits under an adapter", {"model.weights": "int8"}),
    Good("Lion", {"train.optimizer": {"kind": "lion", "learning_rate": 3e-5, "betas": [0.9, 0.99]}}),
    Good(
        "SGD",
        {"train.optimizer": {"kind": "sgd", "momentum": 0.9, "learning_rate": 0.01}},
        trl={"args": {"optim": "sgd", "learning_rate": 0.01}},
        axolotl={"optimizer": "sgd", "learning_rate": 0.01},
        factory={"optim": "sgd", "learning_rate": 0.01},
    ),
    Good(
        "AdamW in 8 bits",
        {"train.optimizer": {"kind": "adamw8bit", "weight_decay": 0.01}},
        axolotl={"optimizer": "adamw_bnb_8bit", "weight_decay": 0.01},
    ),
    Good(
        "warm-up as a share",
        {"train.schedule": {"kind": "linear", "warmup_share": 0.03}},
        trl={"args": {"lr_scheduler_type": "linear", "warmup_steps": 0.03}},
        axolotl={"lr_scheduler": "linear", "warmup_ratio": 0.03},
        factory={"lr_scheduler_type": "linear", "warmup_steps": 0.03},
    ),
    Good(
        "warm-up, stable, decay", {"train.schedule": {"kind": "wsd", "warmup_steps": 1, "decay_share": 0.5}}
    ),
    Good(
        "epochs",
        {"train.steps": None, "train.epochs": 3},
        trl={"args": {"max_steps": -1, "num_train_epochs": 3}},
        axolotl={"num_epochs": 3},
        factory={"num_train_epochs": 3},
    ),
    Good(
        "the best of the evaluations",
        {"train.evaluate": {"every": 2, "keep_best": True, "patience": 3}},
        trl={
            "args": {
                "load_best_model_at_end": True,
                "eval_strategy": "steps",
                "eval_steps": 2,
                "save_strategy": "steps",
                "save_steps": 2,
            },
            "evaluate": True,
        },
        axolotl={
            "load_best_model_at_end": True,
            "eval_steps": 2,
            "save_steps": 2,
            "early_stopping_patience": 3,
        },
        factory={"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2},
    ),
    Good("a gate", EVALUATED | {"gate": [{"metric": "perplexity.nats_per_token", "worse_than_base_by": 0}]}),
    Good("exports", {"export": {"merged": "f32", "gguf": ["Q8_0", "F16"], "gguf_adapter": True}}),
    Good(
        "nothing held out",
        {"data.held_out.count": None, "data.held_out.fraction": 0},
        trl={},
        axolotl={"val_set_size": 0.0},
        factory={"val_size": 0.0},
    ),
    Good(
        "CSV with quotes and newlines",
        CSV_SOURCE,
        text_file("samples.csv", CSV.replace("?", '""?\n')),
        trl={"data": "samples.csv"},
    ),
    Good(
        "CSV of cp1252 with semicolons",
        {"data.sources": [{"path": "samples.csv", "encoding": "cp1252"} | COLUMNS]},
        text_file(
            "samples.csv",
            CSV.replace('","', '";"')
            .replace("question,", "question;")
            .replace("house", "maître")
            .encode("cp1252"),
        ),
        trl={"data": "samples.csv", "load": {"sep": ";", "encoding": "cp1252"}},
    ),
    Good(
        "TSV",
        {"data.sources": [{"path": "samples.tsv"} | COLUMNS]},
        text_file(
            "samples.tsv", CSV.replace('","', "\t").replace("question,", "question\t").replace('"', "")
        ),
        trl={"data": "samples.tsv", "load": {"sep": "\t"}},
    ),
    Good(
        "packed",
        source(path="samples.jsonl.gz"),
        lambda place: place.write("samples.jsonl.gz", gzip.compress(lines(pairs()).encode())),
    ),
    Good(
        "ShareGPT",
        source(path="talks.json"),
        text_file("talks.json", json.dumps(sharegpt(), indent=1)),
        trl={"data": "talks.json"},
    ),
    Good("Alpaca", source(path="alpaca.json"), text_file("alpaca.json", json.dumps(alpaca()))),
    Good("messages", plant=samples(talks()), trl=CHATS),
    Good("a folder of texts", source(path="texts", format="text"), folder_of_texts),
    Good(
        "two sources of unequal weight",
        {"data.sources": [{"path": "samples.jsonl", "weight": 2}, {"path": "b.jsonl", "limit": 8}]},
        samples(talks(), "b.jsonl"),
    ),
    Good(
        "empty answers that may be skipped",
        source(skip_empty=True),
        samples([each | ({"completion": ""} if i == 5 else {}) for i, each in enumerate(pairs())]),
    ),
    Good(
        "long prompts that may be cut",
        {"data.sample_tokens": 160, "data.length": "cut", "data.keep": "end"},
        samples([{"prompt": question(i) * 6, "completion": answer(i)} for i in range(COUNT)]),
    ),
    Good(
        "a teacher",
        {
            "teacher.path": "teacher",
            "teacher.live": True,
            "distill": {"loss": "forward_kl", "temperature": 2, "weight": 0.5},
        },
        teacher,
    ),
]
