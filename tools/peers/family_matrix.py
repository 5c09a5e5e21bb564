#!/usr/bin/env python3
"""Tiny random models of every family at unusual shapes, trained by retort for some steps, exported in every
way and opened by others.

    tools/peers/setup && tools/build release retort reference_logits
    third_party/peers/bin/python tools/peers/family_matrix.py [--family F ...] [--shape S ...]
        [--keep FOLDER] [--jobs 2] [--readme]

The reference is transformers' own model with PEFT's adapter on it, in fp32; what is checked of each export is
said in docs/models.md.
A cell is "equal", "equal but" (with what the other program does not compute, which the report of the run has
to say), "refused" (retort said why before it trained) or "WRONG". Known faults are listed in
known_faults.txt, one `family shape export: reason` a line.
The command fails on a wrong cell that is not listed, on a listed cell that is no longer wrong, and, when it
was asked for the whole, when docs/models.md or README.md show another table than it found; --readme writes
both.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import matrix_models as models
import matrix_peers as peers

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXACT = 1e-4  # of the largest logit: two programs in fp32 on the same numbers
GELU_TABLE = 5e-3  # llama.cpp looks GELU up in a table of 16-bit floats
GGUFS = ["F32", "Q8_0", "Q4_K_M"]
EXPORTS = [
    "lora",
    "rslora",
    "dora",
    "merged-f32",
    "merged-bf16",
    *(f"gguf-{kind}" for kind in GGUFS),
    "from-gguf",
    "from-gguf-rslora",
    "from-gguf-dora",
]
EQUAL, BUT, REFUSED, WRONG, ABSENT = "equal", "equal but", "refused", "WRONG", "absent"
QUESTIONS = [question for question, _ in models.CHATS]
PROMPT = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
TEXTS = models.HELD_OUT + ["x<tool>y 42", PROMPT]
NOT_SPECIAL = "z <|note|> 7"  # an added token that looks like a control token
BECOMES_CONTROL = (
    "<|note|>, an added token that is not special, becomes a control token, as in files of llama.cpp's own "
    "converter"
)
NO_FIRST_SPACE = (
    "a text that begins without a control token has no space in front: GGUF cannot say that one stands "
    "before the first text alone, and the file is made for conversations; the run ends with exit 1, for "
    "such held-out texts have other ids"
)
OTHER_IDS = "held-out prompts have other token ids than with the base: failed"


class Model:
    """One family in one shape: its folder, its runs and its cells."""

    def __init__(self, family, shape, folder, options):
        self.family, self.shape, self.folder, self.options = family, shape, folder, options
        self.base, self.cells, self.files_note = folder / "base", {}, ""
        self.llama = GELU_TABLE if family.startswith("gemma") else EXACT
        folder.mkdir(parents=True)
        self.own = models.make_model(self.base, family, shape)
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(self.base)
        self.end = tokenizer.convert_tokens_to_ids(models.END)
        self.ids = [tokenizer(text).input_ids + [tokenizer.eos_token_id] for text in models.HELD_OUT]
        self.as_text, self.as_tokens = self.ids_by(tokenizer, TEXTS)
        self.special = self.ids_by(tokenizer, [NOT_SPECIAL])
        self.bos = tokenizer.bos_token_id
        # a control token
        self.behind = lambda text: tokenizer(models.END + text, add_special_tokens=False).input_ids[1:]

    @staticmethod
    def ids_by(tokenizer, texts):
        return [
            [
                tokenizer(text, add_special_tokens=False, split_special_tokens=split).input_ids
                for text in texts
            ]
            for split in (True, False)
        ]

    def put(self, export, problems, detail, note=""):
        place = str(self.folder) + "/"  # is left out of what is told: it differs from run to run
        verdict, text = (WRONG, "; ".join(problems)) if problems else (BUT, note) if note else (EQUAL, detail)
        self.cells[export] = [verdict, " ".join(text.replace(place, "").split())]

    # Numbers.
    def opened(self, path):
        import torch
        import transformers

        return transformers.AutoModelForCausalLM.from_pretrained(
            path, config=models.config_of(path), dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def logits_of(self, model):
        import numpy as np
        import torch

        with torch.no_grad():
            return np.concatenate(
                [model(torch.tensor([row]), use_cache=False).logits[0].numpy() for row in self.ids]
            )

    def own_logits(self, model, adapter="-"):
        return peers.retort_logits(self.options.retort_peer, model, adapter, self.ids, self.folder / "own")

    def error_of(self, reference, other, before=None):
        """The largest difference, of the largest logit; `before`: of tokens before this one of their text."""
        import numpy as np

        width = min(reference.shape[1], other.shape[1])
        rows = np.concatenate([np.arange(len(row)) < (before or len(row)) for row in self.ids])
        if not np.isfinite(other[rows, :width]).all():
            return float("nan")
        return float(np.abs(reference[rows, :width] - other[rows, :width]).max() / np.abs(reference).max())

    def kl(self, reference, other):
        """Nats a token, over the rows that retort compares: those that predict a token."""
        import numpy as np
        import torch

        p, q = (
            torch.log_softmax(torch.tensor(part), -1) for part in (reference, other[:, : reference.shape[1]])
        )
        rows = torch.tensor(np.concatenate([np.arange(len(row)) < len(row) - 1 for row in self.ids]))
        return (p.exp() * (p - q)).sum(-1)[rows].mean().item()

    def loss_of(self, logits):
        """Nats a token over the held-out texts, each from its second token on."""
        import torch

        total, first = 0.0, 0
        for row in self.ids:
            scores = torch.log_softmax(torch.tensor(logits[first : first + len(row) - 1]), -1)
            total -= scores[torch.arange(len(row) - 1), torch.tensor(row[1:])].sum().item()
            first += len(row)
        return total / sum(len(row) - 1 for row in self.ids)

    # What a run says of itself.
    @staticmethod
    def stage(run, name):
        return json.loads((run / "stages.json").read_text())["stages"][name]["values"]

    def agreement(self, run, name):
        return self.stage(run, f"compare {name}")["agreement"]

    @staticmethod
    def said(run, name):
        """retort's own greedy answers, with the template and the end tokens of the file."""
        task = json.loads((run / "eval" / f"{name}.json").read_text())[0]
        return [sample["got"] for sample in task["samples"]]

    def attempt(self, name, base, kind, exports, **how):
        """Trains; the folder of the run, or the same refusal in the cells of all `exports`."""
        recipe, run = models.write_recipe(self.folder, name, base, kind, self.own, **how)
        done = subprocess.run(
            [self.options.retort, "run", recipe], capture_output=True, text=True, timeout=300
        )
        broken = [line for line in done.stdout.splitlines() if line.endswith(": failed")]
        told = done.returncode == 1 and all(line.endswith(OTHER_IDS) and "model-" in line for line in broken)
        if done.returncode == 0 or told:
            self.files_note = NO_FIRST_SPACE if told else ""
            return run
        stages = (run / "stages.json").read_text() if (run / "stages.json").exists() else ""
        lines = [line for line in done.stderr.splitlines() if line.startswith("retort:")]
        message = (lines or done.stderr.splitlines()[-1:] or ["it says nothing"])[0]
        if done.returncode == 1:
            message = "; ".join(broken) or message
        trained = '"train"' in stages
        for export in exports:
            self.put(export, [f"exit {done.returncode}{' after training' if trained else ''}: {message}"], "")
            if done.returncode == 2 and not trained:
                self.cells[export][0] = REFUSED
                self.cells[export][1] = self.cells[export][1].removeprefix("exit 2: retort: ")
        return None

    # Cells.
    def adapter_cell(self, export, base, run, trained_on=None):
        """`base` as transformers reads it; what retort trained on, where that is another file. Returns the
        tuned model's logits."""
        from peft import PeftModel

        adapter = run / "export/adapter"
        try:
            model = self.opened(base)
            untouched = self.logits_of(model)
            tuned = self.logits_of(PeftModel.from_pretrained(model, adapter).eval())
        except Exception as error:
            self.put(export, [f"PEFT does not open it: {str(error)[:160]}"], "")
            return None
        problems = []
        if not self.error_of(untouched, tuned) > 1e-3:
            problems.append("it changes nothing")
        far = self.error_of(tuned, self.own_logits(trained_on or base, adapter))
        if not far < EXACT:
            problems.append(f"retort's own logits differ by {far:.1e}")
        loss, reported = self.loss_of(tuned), self.agreement(run, "adapter")["reference_nats"]
        if not abs(reported - loss) < 1e-4 * loss:
            problems.append(f"held-out loss is {loss:.6f}, retort says {reported}")
        self.put(export, problems, f"held-out loss {loss:.6f} in both")
        return tuned

    def merged_cell(self, export, reference, run, exact, note=""):
        import transformers

        folder = run / "export/merged"
        try:
            model, tokenizer = self.opened(folder), transformers.AutoTokenizer.from_pretrained(folder)
            found = self.logits_of(model)
        except Exception as error:
            return self.put(export, [f"transformers does not open it: {str(error)[:160]}"], "")
        problems, far = [], self.error_of(reference, found)
        reported, apart = self.agreement(run, "merged")["kl_nats"], self.kl(reference, found)
        if exact and not far < EXACT:
            problems.append(f"logits differ by {far:.1e}")
        if not exact and not abs(apart - reported) < 0.02 * reported + 1e-6:
            problems.append(f"KL {apart:.2e}, retort reports {reported:.2e}")
        if not (own := self.error_of(found, self.own_logits(folder))) < EXACT:
            problems.append(f"retort's own logits differ by {own:.1e}")
        as_text, as_tokens = self.ids_by(tokenizer, TEXTS)
        last = -1 if note == NO_FIRST_SPACE else None  # the prompt as text is such a text too
        if as_text[:last] != self.as_text[:last] or as_tokens != self.as_tokens:
            problems.append("token ids differ")
        if not note and self.ids_by(tokenizer, [NOT_SPECIAL]) != self.special:
            problems.append("token ids with an added token differ")
        ends = model.generation_config.eos_token_id
        if self.end not in (ends if isinstance(ends, list) else [ends]):
            problems.append(f"{models.END} does not end an answer: eos_token_id {ends}")
        question = [{"role": "user", "content": "a"}]
        if (
            tokenizer.chat_template is None
            or tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True) != PROMPT
        ):
            problems.append("it carries no chat template, or another")
        elif exact:
            said = peers.transformers_says(model, tokenizer, QUESTIONS)
            problems += self.problems_of_answers(said, self.said(run, "merged"))
        self.put(export, problems, f"logits within {far:.1e}", note)

    def problems_of_answers(self, theirs, ours):
        problems = [
            f"the answer is '{their}', of retort generate '{our}'"
            for (their, _), our in zip(theirs, ours)
            if their != our
        ]
        return problems + [f"no end token ends '{text}'" for text, ended in theirs if not ended]

    def gguf_cell(self, kind, reference, run):
        import numpy as np

        out, file = self.folder / "llama.npy", run / f"export/model-{kind}.gguf"
        widen = "" if kind == "F32" else str(self.folder / "widened.gguf")
        notes = self.stage(run, f"export {kind}").get("ignored", [])
        # as the report says
        betas = re.search(r"--yarn-beta-fast (\S+) --yarn-beta-slow (\S+)", " ".join(notes))
        answer = self.options.llama_peer.ask(
            path=str(file),
            ids=self.ids,
            texts=TEXTS + [NOT_SPECIAL],
            out=str(out),
            widen=widen,
            questions=QUESTIONS if kind == "F32" else [],
            betas=[float(beta) for beta in betas.groups()] if betas else [],
        )
        if "error" in answer:
            return self.put(f"gguf-{kind}", [f"llama.cpp: {answer['error']}"], "")
        theirs, ours, problems = np.load(out), self.own_logits(file), []
        if self.files_note:
            notes = notes + [self.files_note]
        # below it there is nothing to see
        before = models.WINDOW if any("windows" in note for note in notes) else None
        far = self.error_of(ours, theirs, before)
        if not far < self.llama:
            problems.append(f"logits differ by {far:.1e} from retort's of the same file")
        if before and self.error_of(ours, theirs) < self.llama:
            problems.append(f"nothing differs, but the report says: {notes[0]}")
        reported, kl = self.agreement(run, kind)["kl_nats"], self.kl(reference, ours)
        if kind == "F32" and not self.error_of(reference, ours) < EXACT:
            problems.append(f"logits differ by {self.error_of(reference, ours):.1e} from the trained model's")
        if not abs(kl - reported) < 0.02 * reported + 1e-6:
            problems.append(f"KL {kl:.2e}, retort reports {reported:.2e}")
        if self.files_note:
            plain = len(TEXTS) - 1  # the prompt begins with a control token
            if (
                answer["as_text"][:plain] != [self.behind(text) for text in TEXTS[:plain]]
                or answer["as_tokens"][plain] != self.as_tokens[plain]
            ):
                problems.append("token ids behind a control token differ")
        elif (
            answer["as_text"][:-1] != self.as_text or answer["as_tokens"] != self.as_tokens + self.special[1]
        ):
            problems.append("token ids differ")
        elif answer["as_text"][-1:] != self.special[0]:
            notes = notes + [BECOMES_CONTROL]
        if self.end not in answer["ends"]:
            problems.append(f"{models.END} does not end an answer")
        if models.START not in answer["template"]:
            problems.append("it carries no chat template")
        elif kind == "F32" and not before:
            # llama-cpp-python leaves out bytes that are no UTF-8; retort shows them.
            ours = [text.replace("\ufffd", "") for text in self.said(run, kind)]
            problems += self.problems_of_answers(list(zip(answer["said"], answer["finished"])), ours)
        self.put(f"gguf-{kind}", problems, f"logits within {far:.1e}", "; ".join(notes))

    def prune(self):
        """`retort prune` writes the student, which then is the base; a problem, or nothing."""
        import torch

        recipe, _ = models.write_recipe(self.folder, "prune", self.base, "none", self.own)
        student, kept = self.folder / "student", self.own["_prune"]
        done = subprocess.run(
            [self.options.retort, "prune", recipe, student, "--type", "f32"],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            return f"retort prune: {done.stderr.strip()[:240]}"
        try:
            cut, model = self.opened(self.base), self.opened(student)
            cut.model.layers = torch.nn.ModuleList([cut.model.layers[i] for i in kept])
            cut.config.num_hidden_layers = len(kept)
            if getattr(cut.config, "layer_types", None):
                cut.config.layer_types = [cut.config.layer_types[i] for i in kept]
            far = self.error_of(self.logits_of(cut), self.logits_of(model))
        except Exception as error:
            return f"transformers does not open the student: {str(error)[:160]}"
        self.base = student
        return (
            "" if far < EXACT else f"the student's logits differ by {far:.1e} from the base without the layer"
        )

    def judge(self):
        if self.own.get("_prune") and (problem := self.prune()):
            for export in EXPORTS:
                self.put(export, [problem], "")
            return
        files = [f"gguf-{kind}" for kind in GGUFS]
        whole = self.attempt(
            "lora", self.base, "lora", ["lora", "merged-f32", *files], merged="f32", gguf=GGUFS, asks=True
        )
        note_of_file = self.files_note
        runs = [(whole, True, True)]
        if whole is None:  # which of the exports is it?
            alone = self.attempt("alone", self.base, "lora", ["lora"])
            merged = (
                self.attempt("merged", self.base, "lora", ["merged-f32"], merged="f32", asks=True)
                if alone
                else None
            )
            file = self.attempt("files", self.base, "lora", files, gguf=GGUFS, asks=True) if alone else None
            runs = [(merged, True, False), (file, False, True)] if merged or file else [(alone, False, False)]
        for run, has_merged, has_files in runs:
            if run is None:
                continue
            tuned = self.adapter_cell("lora", self.base, run)
            if tuned is None:
                for export in (["merged-f32"] if has_merged else []) + (files if has_files else []):
                    self.put(export, ["no reference: " + self.cells["lora"][1]], "")
                return
            if has_merged:
                self.merged_cell("merged-f32", tuned, run, True)
            for kind in GGUFS if has_files else []:
                self.gguf_cell(kind, tuned, run)
        run = self.attempt("rslora", self.base, "rslora", ["rslora", "merged-bf16"], merged="bf16")
        if run and (tuned := self.adapter_cell("rslora", self.base, run)) is not None:
            self.merged_cell("merged-bf16", tuned, run, False)
        if run := self.attempt("dora", self.base, "dora", ["dora"]):
            self.adapter_cell("dora", self.base, run)
        if whole:
            self.judge_from_gguf(whole / "export/merged", whole / "export/model-F32.gguf", note_of_file)

    def judge_from_gguf(self, folder, file, note_of_file):
        """A second training on the file of the first; PEFT has the folder of the same weights."""
        note = BECOMES_CONTROL if self.own.get("_added") else note_of_file
        if note_of_file:
            self.ids = [
                [*row[: 1 if row[0] == self.bos else 0], *self.behind(text), row[-1]]
                for row, text in zip(self.ids, TEXTS)
            ]
            self.as_text, self.as_tokens = (
                [self.behind(text) for text in TEXTS[:-1]] + kept[-1:]
                for kept in (self.as_text, self.as_tokens)
            )
        if run := self.attempt("from-gguf", file, "lora", ["from-gguf"], merged="f32", asks=True):
            tuned = self.adapter_cell("from-gguf", folder, run, file)
            if tuned is not None and self.cells["from-gguf"][0] == EQUAL:
                self.merged_cell("from-gguf", tuned, run, True, note)
        for kind in ("rslora", "dora") if self.shape in models.OF_LAYERS else ():
            if run := self.attempt(f"from-gguf-{kind}", file, kind, [f"from-gguf-{kind}"]):
                self.adapter_cell(f"from-gguf-{kind}", folder, run, file)


def one(job):
    family, shape, folder, options = job
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    mine = globals().setdefault("PEERS", {})  # of this process
    options.llama_peer = mine.setdefault("llama", peers.llama_cpp_peer())
    options.retort_peer = mine.setdefault("retort", peers.retort_peer(options.reference))
    try:
        model = Model(family, shape, pathlib.Path(folder) / f"{family}-{shape}", options)
        model.judge()
        return family, shape, model.cells
    except models.NoSuchModel:
        return family, shape, {}
    except Exception as error:  # a fault of this program is a bad cell, never a silent one
        return (
            family,
            shape,
            {
                export: [WRONG, f"the matrix itself fails: {type(error).__name__}: {str(error)[:160]}"]
                for export in EXPORTS
            },
        )


def known_faults(path):
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.strip() and not line.startswith("#"):
            place, _, reason = line.partition(":")
            found[tuple(place.split())] = reason.strip()
    return found


def counted(cells):
    verdicts = [cell[0] for cell in cells]
    return (
        ", ".join(
            f"{verdicts.count(verdict)} {verdict}"
            for verdict in (EQUAL, BUT, REFUSED, WRONG)
            if verdict in verdicts
        )
        or "-"
    )


def support_table(results):
    lines = ["| family | " + " | ".join(EXPORTS) + " |", "|---|" + "---|" * len(EXPORTS)]
    for family in dict.fromkeys(key[0] for key in results):
        of_family = [cells for key, cells in results.items() if key[0] == family]
        lines.append(
            f"| {family} | "
            + " | ".join(
                counted([cells[export] for cells in of_family if export in cells]) for export in EXPORTS
            )
            + " |"
        )
    for verdict, title in (
        (
            BUT,
            "Equal but for this, which the report of the run says or llama.cpp's own converter does as well:",
        ),
        (REFUSED, "Refused before training:"),
    ):
        reasons = {}
        for (family, shape), cells in results.items():
            for found, detail in cells.values():
                if found == verdict:
                    reasons.setdefault(detail, {}).setdefault(shape, set()).add(family)
        lines += ["", title, ""]
        for reason, shapes in sorted(reasons.items()):
            places = "; ".join(
                f"{shape} ({', '.join(sorted(of))})" if len(of) < len(models.FAMILIES) else shape
                for shape, of in sorted(shapes.items())
            )
            if len(shapes) > 0.8 * len(models.SHAPES):
                places = "every shape of " + ", ".join(sorted(set().union(*shapes.values())))
            lines.append(f"- {places}: {reason}")
    return "\n".join(lines) + "\n"


def short_table(results):
    groups = {
        "adapter in PEFT": ("lora", "rslora", "dora"),
        "merged folder in transformers": ("merged-f32", "merged-bf16"),
        "file in llama.cpp": tuple(f"gguf-{kind}" for kind in GGUFS),
        "trained from a GGUF file": tuple(export for export in EXPORTS if export.startswith("from")),
    }
    lines = ["| family | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for family in dict.fromkeys(key[0] for key in results):
        row = []
        for exports in groups.values():
            cells = [
                cells[export]
                for key, cells in results.items()
                if key[0] == family
                for export in exports
                if export in cells
            ]
            row.append(counted(cells))
        lines.append(f"| {family} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def shown_otherwise(page, table, write):
    """Whether `page` shows another table between its marks; with `write` it is put there."""
    text = page.read_text()
    head, rest = text.split("<!-- matrix -->\n")
    shown, tail = rest.split("<!-- end of matrix -->")
    if write:
        page.write_text(f"{head}<!-- matrix -->\n{table}<!-- end of matrix -->{tail}")
    return shown != table and not write


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", nargs="+", default=models.FAMILIES, choices=models.FAMILIES)
    parser.add_argument("--shape", nargs="+", default=list(models.SHAPES), choices=list(models.SHAPES))
    parser.add_argument("--keep", type=pathlib.Path, help="a new folder that keeps every model and run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--retort", type=pathlib.Path, default=ROOT / "build/release/retort")
    parser.add_argument(
        "--reference", type=pathlib.Path, default=ROOT / "build/release/tools/peers/reference_logits"
    )
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "runs/family_matrix.json")
    parser.add_argument(
        "--readme", action="store_true", help="write the tables of docs/models.md and README.md"
    )
    parser.add_argument("--known", type=pathlib.Path, default=ROOT / "tools/peers/known_faults.txt")
    options = parser.parse_args()
    for program, target in ((options.retort, "retort"), (options.reference, "reference_logits")):
        if not program.exists():
            sys.exit(f"{program}: is not there; run tools/build release {target}")
    began = time.time()
    temporary = None
    if not options.keep:
        temporary = tempfile.TemporaryDirectory()
    folder = options.keep.resolve() if options.keep else pathlib.Path(temporary.name)
    known = known_faults(options.known)
    jobs = [(family, shape, str(folder), options) for shape in options.shape for family in options.family]
    results, new = {}, []
    with ProcessPoolExecutor(options.jobs) as pool:
        for family, shape, cells in pool.map(one, jobs):
            results[family, shape] = cells
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(
                json.dumps({f"{f} {s}": c for (f, s), c in results.items()}, indent=1) + "\n"
            )
            for export, (verdict, detail) in cells.items():
                listed = (family, shape, export) in known
                if verdict == WRONG:
                    print(f"{'known' if listed else 'WRONG'} {family} {shape} {export}: {detail}", flush=True)
                    if not listed:
                        new.append((family, shape, export))
    healed = [
        place
        for place in known
        if place[:2] in results and results[place[:2]].get(place[2], [ABSENT])[0] != WRONG
    ]
    for place in healed:
        print(f"{' '.join(place)}: is listed in {options.known.name} and no longer wrong: remove its line")
    print(support_table(results))
    stale = []
    if len(jobs) == len(models.FAMILIES) * len(models.SHAPES):
        for page, table in (
            (ROOT / "docs/models.md", support_table(results)),
            (ROOT / "README.md", short_table(results)),
        ):
            if shown_otherwise(page, table, options.readme):
                stale.append(page)
                print(
                    f"{page}: shows another table than this; write it with tools/peers/family_matrix.py "
                    "--readme"
                )
    total = [cell[0] for cells in results.values() for cell in cells.values()]
    print(
        f"{len([cells for cells in results.values() if cells])} models, {len(total)} cells: "
        f"{', '.join(f'{total.count(verdict)} {verdict}' for verdict in (EQUAL, BUT, REFUSED, WRONG))} "
        f"({len(new)} of them not known), {time.time() - began:.0f} s"
    )
    sys.exit(1 if new or healed or stale else 0)


if __name__ == "__main__":
    main()
