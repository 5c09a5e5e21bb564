"""An OpenAI-compatible server for tests, on loopback. Its model is a rule that can be checked by hand: after
token t come t+1, t+2, t+3, ... (modulo the vocabulary) with probabilities 1/2, 1/4, 1/8, ...

  server.py PORT_FILE [OPTIONS AS JSON]     ends when standard input does
    kind         "vllm": token ids in, prompt_logprobs out; "llama": one text in, echo out; "chat": neither
    faults       what happens to the POST requests, in order; then all is well: reset, truncated, half (valid
                 length, broken JSON), slow:SECONDS, 429, 429:RETRY-AFTER, 500, 401, ..., redirect:URL
    models       names that are listed; null: there is no list
    vocabulary   size
    specials     spellings from id 256 on
    bos          the id that is put before a text and left out of its echo
    shifted      echo pairs each token with the distribution after it
    token        the bearer token that is needed
    tls          [certificate, key]
    log          file that gets a line of JSON a request
"""
import http.server
import json
import math
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time

options = {
    "kind": "vllm",
    "faults": [],
    "models": ["toy"],
    "vocabulary": 259,
    "specials": ["<|im_start|>", "<|im_end|>", "<s>"],
    "bos": None,
    "shifted": False,
    "token": None,
    "tls": None,
    "log": None,
}
options.update(json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
lock = threading.Lock()


def text_of(token):
    if token < 256:
        return bytes([token]).decode("utf-8", errors="ignore")
    return options["specials"][token - 256] if token - 256 < len(options["specials"]) else f"<{token}>"


def likeliest(token, count):
    return [((token + 1 + j) % options["vocabulary"], (j + 1) * math.log(0.5)) for j in range(count)]


def tokens_of(text):
    found = []
    for part in re.split("(" + "|".join(re.escape(s) for s in options["specials"]) + ")", text):
        if part in options["specials"]:
            found.append(256 + options["specials"].index(part))
        else:
            found.extend(part.encode())
    return found


def decoded_in_context(context, token):
    """As vLLM 0.32 spells a token that ends inside a character: "" until the character is whole, then the
    whole character (its v1/engine/logprobs.py)."""

    def decoded(tokens):
        out = b"".join(bytes([t]) if t < 256 else text_of(t).encode() for t in tokens)
        return out.decode(errors="replace")

    alone = decoded([token])
    if not alone.endswith("\ufffd"):
        return alone
    for count in range(1, min(len(context), 4) + 1):
        before = context[-count:]
        whole = decoded(before + [token])
        if whole.endswith("\ufffd"):
            continue
        while before and decoded(before[-1:]).endswith("\ufffd"):
            before = before[:-1]
        return whole[len(decoded(before)) :]
    return ""


def prompt_logprobs(tokens, count):
    entries = [None]
    for i, (before, token) in enumerate(zip(tokens, tokens[1:])):
        likely = dict(likeliest(before, count))
        # the token that stands there comes first, whatever its rank
        row = {token: likely.get(token, -20.0), **likely}
        ranks = {t: j + 1 for j, t in enumerate(likely)}
        # vLLM's context is what it has entries for, so never the prompt's first token.
        entries.append(
            {
                str(t): {
                    "logprob": p,
                    "rank": ranks.get(t, count + 1),
                    "decoded_token": decoded_in_context(tokens[1 : i + 1], t)
                    if options["vocabulary"] < 1000
                    else None,
                }
                for t, p in row.items()
            }
        )
    return entries


def echo(text, count):
    tokens = ([options["bos"]] if options["bos"] is not None else []) + tokens_of(text)
    generated = likeliest(tokens[-1], 1)[0][0]
    whole = tokens + [generated]
    names, rows, own = [], [], []
    for i, token in enumerate(whole):
        if options["shifted"] and i == len(tokens):
            break
        if token == options["bos"]:
            continue
        before = whole[i] if options["shifted"] else whole[i - 1] if i > 0 else None
        row = {} if before is None else {text_of(t): p for t, p in likeliest(before, count)}
        own.append(dict(likeliest(before, options["vocabulary"])).get(token) if before is not None else None)
        row[text_of(token)] = own[-1]
        names.append(text_of(token))
        rows.append(row)
    rows[0] = None
    return {
        "text": text + text_of(generated),
        "logprobs": {"tokens": names, "top_logprobs": rows, "token_logprobs": own},
    }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def note(self, body):
        if options["log"]:
            with lock, open(options["log"], "a") as log:
                log.write(
                    json.dumps(
                        {
                            "path": self.path,
                            "time": time.time(),
                            "authorization": self.headers.get("Authorization"),
                            "body": body,
                        }
                    )
                    + "\n"
                )

    def allowed(self):
        if options["token"] and self.headers.get("Authorization") != "Bearer " + options["token"]:
            self.send(401, {"error": {"message": f"wrong key: {self.headers.get('Authorization')}"}})
            return False
        return True

    def do_GET(self):
        self.note(None)
        if not self.allowed():
            return
        if self.path == "/v1/models" and options["models"] is not None:
            self.send(200, {"data": [{"id": name} for name in options["models"]]})
        else:
            self.send(404, {"detail": "Not Found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.note(body)
        with lock:
            fault = options["faults"].pop(0) if options["faults"] else "none"
        kind, _, argument = str(fault).partition(":")
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if kind == "slow":
            time.sleep(float(argument))
        if kind == "redirect":
            return self.send(307, {}, [("Location", argument + self.path)])
        if kind.isdigit():
            return self.send(
                int(kind),
                {"error": {"message": f"fault {kind}"}},
                [("Retry-After", argument)] if argument else [],
            )
        if not self.allowed():
            return
        answer = self.answer(body)
        if answer is None:
            return
        data = json.dumps(answer).encode()
        if kind == "truncated":  # the length says more than what comes
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.send(200, data[: len(data) // 2] if kind == "half" else data)

    def answer(self, body):
        if options["models"] is not None and body.get("model") not in options["models"]:
            return self.send(404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}})
        if self.path == "/v1/chat/completions":
            asked = body["messages"][-1]["content"]
            return {
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": f"{asked} -> {body['seed'] % 1000} at {body['temperature']}",
                        },
                        "finish_reason": "length" if "long" in asked else "stop",
                    }
                ]
            }
        prompts = body["prompt"]
        if options["kind"] == "vllm" and isinstance(prompts, list) and isinstance(prompts[0], list):
            if body.get("prompt_logprobs", 0) > 20:
                return self.send(
                    400,
                    {
                        "error": {
                            "message": "Requested prompt logprobs of 21, which is greater than max allowed: "
                            "20 (parameter=prompt_logprobs, value=21)",
                            "type": "BadRequestError",
                            "param": "prompt_logprobs",
                            "code": 400,
                        }
                    },
                )
            choices = [
                {"index": i, "text": "x", "prompt_logprobs": prompt_logprobs(p, body["prompt_logprobs"])}
                for i, p in enumerate(prompts)
            ]
            return {"choices": choices[::-1]}  # in any order: the index counts
        if not isinstance(prompts, str):
            # as llama-cpp-python says it
            return self.send(
                500, {"error": {"message": "2 validation errors: Input should be a valid string"}}
            )
        if options["kind"] == "llama" and body.get("echo"):
            return {"choices": [{"index": 0, **echo(prompts, body["logprobs"])}]}
        return {"choices": [{"index": 0, "text": "x", "logprobs": None}]}


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if options["tls"]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*options["tls"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(sys.argv[1] + ".part", "w") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".part", sys.argv[1])
sys.stdin.read()
os._exit(0)
