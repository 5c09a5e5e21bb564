#!/usr/bin/env python3
"""Signatures between retort-sign and the PyPI package model-signing, both ways:

    check_signatures.py [BUILD_FOLDER]     (default build/release; needs model-signing and pyopenssl)

Each signs a folder and a file, the other verifies them, and refuses them when a byte has changed.
"""
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "build/release")
PEER = [sys.executable, "-m", "model_signing"]
failed = 0


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


def require(holds, what, done):
    global failed
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        print((done.stdout + done.stderr)[-500:])
        failed += 1


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        key, public, model = folder / "key.pem", folder / "public.pem", folder / "model"
        (model / "deep").mkdir(parents=True)
        for curve in ("prime256v1", "secp384r1", "secp521r1"):
            run("openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", key)
            run("openssl", "ec", "-in", key, "-pubout", "-out", public)
            (model / "config.json").write_text("{}")
            (model / "deep/weights.safetensors").write_text("weights")
            for what, signature in (
                (model, model / "model.sig"),
                (model / "config.json", folder / "config.json.sig"),
            ):
                ours = (BUILD / "retort-sign", "verify", what, "--key", public, "--signature", signature)
                theirs = (*PEER, "verify", "key", "--public_key", public, "--signature", signature, what)
                signers = {
                    "retort-sign": (
                        (BUILD / "retort-sign", "sign", what, "--key", key, "--signature", signature),
                        theirs,
                    ),
                    "model-signing": (
                        (*PEER, "sign", "key", "--private_key", key, "--signature", signature, what),
                        ours,
                    ),
                }
                for signer, (sign, verify) in signers.items():
                    signature.unlink(missing_ok=True)
                    made = run(*sign)
                    done = run(*verify) if made.returncode == 0 else made
                    require(done.returncode == 0, f"{curve}, {what.name}: {signer}'s verifies", done)
                    (model / "config.json").write_text("{ }")
                    done = run(*verify)
                    require(done.returncode != 0, f"{curve}, {what.name}: a change is seen", done)
                    (model / "config.json").write_text("{}")
                signature.unlink()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
