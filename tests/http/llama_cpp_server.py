#!/usr/bin/env python3
"""A real llama-cpp-python server on loopback serves SmolLM2 to the tests of http_test that need one and to
retort-online.

  llama_cpp_server.py ROOT RETORT RETORT-ONLINE HTTP_TEST

Exit 77: the peers (tools/peers/setup) or the model are absent.
"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

MODEL = "checkpoints/smollm2-135m-instruct-q4_1.gguf"


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def run(*command, expect=0):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != expect:
        sys.exit(
            f"{' '.join(map(str, command))}: exit {done.returncode}, expected {expect}\n"
            f"{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr


def main(root, retort, online, http_test):
    os.chdir(root)
    python = pathlib.Path(os.environ.get("RETORT_PEERS", "third_party/peers")) / "bin/python"
    if not pathlib.Path(MODEL).exists() or not python.exists():
        skip("model or peers are absent")
    if (
        subprocess.run([python, "-c", "import llama_cpp.server.app, uvicorn"], capture_output=True).returncode
        != 0
    ):
        skip("llama_cpp.server is not in the peers")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/server.log", "w") as log:
        # fmt: off
        command = [python, "-m", "llama_cpp.server", "--model", MODEL, "--model_alias", "smollm2",
                   "--host", "127.0.0.1", "--port", str(port), "--logits_all", "true", "--n_ctx", "512",
                   "--n_threads", "2", "--api_key", "sk-llama"]
        # fmt: on
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(
                        urllib.request.Request(url + "/models", headers={"Authorization": "Bearer sk-llama"}),
                        timeout=5,
                    )
                    break
                except OSError:
                    if server.poll() is not None:
                        sys.exit("the server ended:\n" + open(f"{folder}/server.log").read()[-3000:])
                    time.sleep(0.2)
            token = pathlib.Path(folder, "token")
            token.write_text("sk-llama\n")
            print(
                run(
                    "env",
                    f"RETORT_LLAMA_SERVER={url}",
                    f"RETORT_LLAMA_TOKEN={token}",
                    http_test,
                    "--gtest_filter=LlamaCppServer.*",
                )
            )

            samples = pathlib.Path(folder, "samples.jsonl")
            samples.write_text(
                "".join(
                    json.dumps(
                        {
                            "prompt": f"How many legs have {n} horses?",
                            "completion": f"They have {4 * n} legs.",
                        }
                    )
                    + "\n"
                    for n in range(1, 6)
                )
            )
            recipe = pathlib.Path(folder, "r.yaml")
            base = (
                f"model: {{path: {MODEL}}}\nprune: {{layers: 2}}\n"
                f"data: {{sources: [{{path: {samples}}}], held_out: {{count: 2}}}}\nadapter: {{kind: full}}\n"
                f"train: {{steps: 2, threads: 2, batch: {{samples: 3}}}}\n"
                f"export: {{merged: none, gguf: [], adapter: false}}\nrun: {{folder: {folder}/run}}\n"
            )
            server_keys = f"url: '{url}', server: {{model: smollm2, token_file: {token}, concurrent: 2}}"
            recipe.write_text(
                base + f"teacher: {{{server_keys}, keep: {{draws: 0, head: 5}}}}\ndistill: {{}}\n"
            )
            said = run(online, "teach", recipe)
            print(said)
            run(retort, "run", recipe)
            recipe.write_text(
                base + f"teacher: {{{server_keys}, answers: {{file: {folder}/answers.jsonl, max_tokens: 12, "
                f"temperature: 0}}}}\n"
            )
            print(run(online, "teach", recipe))
            answers = [json.loads(line) for line in open(f"{folder}/answers.jsonl")]
            assert len(answers) == 3 and all(
                a["completion"] and a["finish_reason"] in ("stop", "length") and a["teacher"] == "smollm2"
                for a in answers
            ), answers
            recipe.write_text(
                base + f"teacher: {{{server_keys.replace('smollm2', 'smollm3')}, answers: {{file: "
                f"{folder}/b.jsonl}}}}\n"
            )
            wrong = run(online, "teach", recipe, expect=2)
            assert "has no model 'smollm3'; did you mean 'smollm2'?" in wrong, wrong
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
