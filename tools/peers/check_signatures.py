#!/usr/bin/env python3
"""Signatures between retort-sign and the PyPI package model-signing, both ways:

    check_signatures.py [BUILD_FOLDER] [--published FOLDER]

BUILD_FOLDER: build/release otherwise; needs model-signing and pyopenssl, and openssl. Each signs a folder
and a file, with a bare key and with a certificate; the other verifies them, and refuses them when a byte has
changed or the certificate is another root's. Where softhsm2 is installed, a key in a token signs too.
--published: scripts/tests of a clone of github.com/sigstore/model-transparency, whose signatures with
certificates, of its releases 0.3.1 to 1.1.0, retort-sign verifies.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = [sys.executable, "-m", "model_signing"]
SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
EXTENSIONS = """
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = codeSigning
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
failed = 0


def run(*words, **more):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)


def made(*words, **more):
    """The output of a command that only prepares."""
    done = run(*words, **more)
    if done.returncode:
        sys.exit(f"{' '.join(str(word) for word in words)}: {done.stdout}{done.stderr}")
    return done.stdout


def require(holds, what, done):
    global failed
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        print((done.stdout + done.stderr)[-500:])
        failed += 1


def make_key(folder, name, curve):
    key = folder / f"{name}.key.pem"
    made("openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", key)
    made("openssl", "ec", "-in", key, "-pubout", "-out", folder / f"{name}.public.pem")
    return key


def make_certificate(folder, name, curve, issuer, extensions):
    """NAME.pem, of the key NAME.key.pem, which is made."""
    key, request = make_key(folder, name, curve), folder / f"{name}.request.pem"
    settings = folder / "extensions.cnf"
    settings.write_text(EXTENSIONS)
    made("openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
    by = ("-CA", folder / f"{issuer}.pem", "-CAkey", folder / f"{issuer}.key.pem", "-CAcreateserial")
    if not issuer:
        by = ("-signkey", key)
    made(
        *("openssl", "x509", "-req", "-in", request, "-days", "30", "-out", folder / f"{name}.pem"),
        *("-extfile", settings, "-extensions", extensions, *by),
    )


class Ways:
    """How a model is signed and verified, by each of the two programs."""

    def __init__(self, sign, folder):
        self.sign, self.folder = sign, folder

    def bare_key(self, what, signature):
        key, public = self.folder / "signer.key.pem", self.folder / "signer.public.pem"
        return {
            "retort-sign": (
                (self.sign, "sign", what, "--key", key, "--signature", signature),
                (self.sign, "verify", what, "--key", public, "--signature", signature),
            ),
            "model-signing": (
                (*PEER, "sign", "key", "--private_key", key, "--signature", signature, what),
                (*PEER, "verify", "key", "--public_key", public, "--signature", signature, what),
            ),
        }

    def certificate(self, what, signature, root="root"):
        key, leaf = self.folder / "signer.key.pem", self.folder / "signer.pem"
        issuer, root = self.folder / "issuer.pem", self.folder / f"{root}.pem"
        ours = ("--key", key, "--certificate", leaf, "--certificate", issuer)
        theirs = ("--private_key", key, "--signing_certificate", leaf, "--certificate_chain", issuer)
        return {
            "retort-sign": (
                (self.sign, "sign", what, *ours, "--signature", signature),
                (self.sign, "verify", what, "--root", root, "--signature", signature),
            ),
            "model-signing": (
                (*PEER, "sign", "certificate", *theirs, "--signature", signature, what),
                (*PEER, "verify", "certificate", "--certificate_chain", root, "--signature", signature, what),
            ),
        }


def both_ways(ways, kind, curve, what, signature, changed):
    commands = getattr(ways, kind)(what, signature)
    for signer, verifier in (("retort-sign", "model-signing"), ("model-signing", "retort-sign")):
        signature.unlink(missing_ok=True)
        done = run(*commands[signer][0])
        title = f"{curve}, {kind.replace('_', ' ')}, {what.name}"
        verify = commands[verifier][1]
        if done.returncode == 0:
            done = run(*verify)
        require(done.returncode == 0, f"{title}: {signer}'s verifies", done)
        whole = changed.read_text()
        changed.write_text(whole + " ")
        done = run(*verify)
        require(done.returncode != 0, f"{title}: a change is seen", done)
        changed.write_text(whole)
        if kind == "certificate":
            other = ways.certificate(what, signature, root="stranger")
            done = run(*other[verifier][1])
            require(done.returncode != 0, f"{title}: another root is refused", done)
    signature.unlink()


def with_token(sign, folder, model):
    """retort-sign with a key in SoftHSM's token, verified by model-signing."""
    (folder / "tokens").mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    there = {"env": os.environ | {"SOFTHSM2_CONF": str(settings)}}
    key, signature = make_key(folder, "token", "prime256v1"), folder / "token.sig"
    made("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", key, "-out", folder / "token.pkcs8.pem")
    token = ("softhsm2-util", "--pin", "1234")
    made(*token, "--init-token", "--free", "--label", "peers", "--so-pin", "5678", **there)
    key = ("--import", folder / "token.pkcs8.pem", "--label", "signer", "--id", "01")
    made(*token, "--token", "peers", *key, **there)
    (folder / "pin").write_text("1234\n")
    uri = f"pkcs11:token=peers;object=signer?module-path={SOFTHSM}&pin-source={folder}/pin"
    done = run(sign, "sign", model, "--key", uri, "--signature", signature, **there)
    if done.returncode == 0:
        public = folder / "token.public.pem"
        done = run(*PEER, "verify", "key", "--public_key", public, "--signature", signature, model)
    require(done.returncode == 0, "a key in a token: retort-sign's verifies", done)


def published(sign, tests):
    root = tests / "keys/certificate/ca-cert.pem"
    cases = sorted(case for case in tests.glob("v*-certificate") if case.name != "v0.2.0-certificate")
    if not cases:
        sys.exit(f"{tests}: holds no v*-certificate; expected scripts/tests of sigstore/model-transparency")
    for case in cases:
        signature = case / "model.sig"
        # Later cases have a file beside the model that its makers leave out by an option.
        with tempfile.TemporaryDirectory() as name:
            copy = pathlib.Path(name) / "model"
            shutil.copytree(case, copy, ignore=shutil.ignore_patterns("ignore-me", "model.sig"))
            done = run(sign, "verify", copy, "--signature", signature, "--root", root)
            require(done.returncode == 0, f"published {case.name}: verifies", done)
            (copy / "signme-1").write_text("changed")
            done = run(sign, "verify", copy, "--signature", signature, "--root", root)
            require(done.returncode != 0, f"published {case.name}: a change is seen", done)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release")
    parser.add_argument("--published", type=pathlib.Path)
    options = parser.parse_args()
    sign = ROOT / options.build / "retort-sign"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = folder / "model"
        (model / "deep").mkdir(parents=True)
        (model / "config.json").write_text("{}")
        (model / "deep/weights.safetensors").write_text("weights")
        curves = ("prime256v1", "secp384r1", "secp521r1")
        for curve in curves:
            make_certificate(folder, "root", curve, None, "ca")
            make_certificate(folder, "stranger", curve, None, "ca")
            make_certificate(folder, "issuer", curve, "root", "ca")
            make_certificate(folder, "signer", curve, "issuer", "signer")
            file = model / "config.json"
            for kind in ("bare_key", "certificate"):
                both_ways(Ways(sign, folder), kind, curve, model, model / "model.sig", file)
                if curve == curves[0]:
                    both_ways(Ways(sign, folder), kind, curve, file, folder / "config.json.sig", file)
        if shutil.which("softhsm2-util"):
            with_token(sign, folder, model)
        else:
            print("a key in a token: left out, softhsm2 is not installed")
        if options.published:
            published(sign, options.published)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
