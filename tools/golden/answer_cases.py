#!/usr/bin/env python3
"""Public cases of answers to mathematics questions, and which of three judges takes them as equal: the rules
of MATH (lm-evaluation-harness' hendrycks_math), Minerva's with sympy (its minerva_math), and math-verify.

    tools/peers/setup && third_party/peers/bin/python tools/golden/answer_cases.py

Reads the cases' texts (gold, pred, and where they are from) out of tests/golden/scores/answer_cases.json and
writes the verdicts of the installed judges beside them; tests/text/answer_cases_test.cpp holds retort to
those on which all three agree.
"""
import importlib.metadata
import json
import logging
import pathlib
import warnings

from lm_eval.tasks.hendrycks_math import utils as hendrycks
from lm_eval.tasks.minerva_math import utils as minerva
from math_verify import parse, verify

FILE = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/scores/answer_cases.json"
logging.disable(logging.WARNING)
warnings.simplefilter("ignore")


def formula(text):
    """The last box, else what stands between the first and the last dollar, as hendrycks_math takes an
    answer; else the whole text."""
    boxed = hendrycks.last_boxed_only_string(text)
    if boxed is not None:
        try:
            return hendrycks.remove_boxed(boxed)
        except AssertionError:
            return text
    dollars = [i for i, c in enumerate(text) if c == "$"]
    return text if len(dollars) <= 1 else text[dollars[0] + 1 : dollars[-1]]


def as_math(text):
    """math-verify reads formulas between dollars; a bare one is put there."""
    return text if "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text else f"${text}$"


def judged(case):
    gold, pred = formula(case["gold"]), formula(case["pred"])
    try:
        plain = bool(hendrycks.is_equiv(gold, pred))
    except Exception:  # strip_string() of texts that are no formulas
        plain = False
    algebra = bool(
        minerva.is_equiv(minerva.normalize_final_answer(pred), minerva.normalize_final_answer(gold))
    )
    gold, pred = case["gold"], case["pred"]
    if not case["source"].startswith("Math-Verify"):
        gold, pred = as_math(gold), as_math(pred)
    return {
        "hendrycks_math": plain,
        "minerva_math": algebra,
        "math_verify": bool(verify(parse(gold), parse(pred))),
    }


def main():
    golden = json.loads(FILE.read_text())
    for case in golden["cases"]:
        case["equal"] = judged(case)
    golden["made_by"] = "tools/golden/answer_cases.py"
    golden["versions"] = {
        name: importlib.metadata.version(name)
        for name in ("lm_eval", "math-verify", "latex2sympy2_extended", "sympy")
    }
    rows = ",\n".join(json.dumps(case, ensure_ascii=False) for case in golden.pop("cases"))
    head = json.dumps(golden, ensure_ascii=False, indent=0)[:-2]
    FILE.write_text(f'{head},\n"cases": [\n{rows}\n]\n}}\n')
    cases = json.loads(FILE.read_text())["cases"]
    agreed = [case for case in cases if len(set(case["equal"].values())) == 1]
    print(
        len(cases),
        "cases,",
        len(agreed),
        "of one mind,",
        sum(c["equal"]["math_verify"] for c in agreed),
        "equal",
    )


if __name__ == "__main__":
    main()
