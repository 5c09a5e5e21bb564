"""The programs that tools/peers/family_matrix.py asks, one process of each: llama.cpp, retort, and
transformers in this one."""
import json
import pathlib
import subprocess
import sys

import numpy as np

CONTEXT = 128
LONGEST_ANSWER = 16


class Peer:
    """A process that answers a JSON line with a JSON line, started again where it dies of a question."""

    def __init__(self, command, name):
        self.command, self.name, self.process = command, name, None

    def ask(self, **job):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": f"{self.name} aborted"}


def llama_cpp_peer():
    return Peer([sys.executable, __file__], "llama.cpp")  # it aborts on what it does not like


def retort_peer(program):
    return Peer([program, "-"], "retort's reader")


def retort_logits(peer, model, adapter, ids, out):
    """[positions, vocabulary] of what retort itself computes."""
    answer = peer.ask(model=str(model), adapter=str(adapter), prompts=ids, out=str(out))
    if "error" in answer:
        raise ValueError(f"retort does not open it: {answer['error']}")
    return np.fromfile(f"{out}.f32", dtype=np.float32).reshape(-1, answer["vocabulary"])


def ask_llama(job):
    import llama_cpp

    path = job["path"]
    if job.get("widen"):  # its products of blocks round activations to 8 bits; those of F32 do not
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.allow_requantize, parameters.nthread = 0, True, 1
        if llama_cpp.llama_model_quantize(path.encode(), job["widen"].encode(), parameters) != 0:
            raise ValueError("llama.cpp cannot widen it to F32")
        path = job["widen"]
    usual = llama_cpp.llama_context_default_params()  # the binding's own defaults overrule the file
    if job.get("betas"):
        usual.yarn_beta_fast, usual.yarn_beta_slow = job["betas"]
    llama = llama_cpp.Llama(
        path,
        n_ctx=CONTEXT,
        n_batch=CONTEXT,
        logits_all=True,
        verbose=False,
        n_threads=1,
        n_threads_batch=1,
        type_k=0,
        type_v=0,
        flash_attn=False,
        yarn_beta_fast=usual.yarn_beta_fast,
        yarn_beta_slow=usual.yarn_beta_slow,
        yarn_attn_factor=usual.yarn_attn_factor,
    )
    rows = []
    for ids in job["ids"]:
        llama.reset()
        llama.eval(ids)
        rows.append(llama.scores[: len(ids)].copy())
    np.save(job["out"], np.concatenate(rows))
    vocabulary = llama._model.vocab
    answer = {
        "as_text": [llama.tokenize(text.encode(), add_bos=False, special=False) for text in job["texts"]],
        "as_tokens": [llama.tokenize(text.encode(), add_bos=False, special=True) for text in job["texts"]],
        "ends": [i for i in range(llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, i)],
        "template": llama.metadata.get("tokenizer.chat_template", ""),
        "said": [],
        "finished": [],
    }
    for question in job["questions"]:
        said = llama.create_chat_completion(
            [{"role": "user", "content": question}], temperature=0, max_tokens=LONGEST_ANSWER
        )["choices"][0]
        answer["said"].append(said["message"]["content"])
        answer["finished"].append(said["finish_reason"] == "stop")
    return answer


def transformers_says(model, tokenizer, questions):
    """(text, whether a token of the file's own ended it) of each greedy answer."""
    import torch

    answers = []
    for question in questions:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        ).input_ids
        with torch.no_grad():
            new = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=LONGEST_ANSWER, do_sample=False
            )[0, ids.shape[1] :]
        answers.append((tokenizer.decode(new, skip_special_tokens=True), len(new) < LONGEST_ANSWER))
    return answers


def main():
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    for line in sys.stdin:
        try:
            answer = ask_llama(json.loads(line))
        except Exception as error:
            answer = {"error": str(error)[:160]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
