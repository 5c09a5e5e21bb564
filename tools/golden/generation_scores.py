#!/usr/bin/env python3
"""BLEU and chrF of sacrebleu and ROUGE-L of rouge-score for small corpora.

Writes tests/golden/generation_scores.json.

Run with a Python that has both (neither is among the peers):
  python3 -m venv /tmp/scores && /tmp/scores/bin/pip install sacrebleu==2.6.0 rouge-score==0.1.2
  /tmp/scores/bin/python tools/golden/generation_scores.py
"""
import json
import pathlib
from importlib.metadata import version

import sacrebleu
from rouge_score import rouge_scorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "generation_scores.json"

CORPORA = [
    [("The cat sat on the mat.", "The cat sat on the mat.")],
    [("The cat sat on the mat.", "A cat was sitting on a mat")],
    [
        ("The licence must be kept with every copy.", "Keep the licence."),
        ("No warranty is given.", "No warranty."),
    ],
    [("yes", "no")],
    [("yes", "yes")],
    [("one two three", "one two three")],
    [("a b c d e f", "")],
    [("a b c d e f", "a b c x e f g"), ("g h i j", "g h j i")],
    [
        (
            "It costs $1,234.56 (net) -- at 5%; see http://x.org/a-b.",
            "It costs $1,234.56 net, at 5 %, see x.org.",
        )
    ],
    [('Fees are due in 10-14 days & "after" that...', "Fees are due within 14 days &amp; after that..")],
    [("Der Müller-Straße-Fall kostet 3,5 €.", "Der Fall Müllerstraße kostet 3.5 €.")],
    [("本院认为被告应当承担全部违约责任。", "被告应当承担违约责任。"), ("驳回上诉", "维持原判")],
    [
        ("Line one\nline two-\nthree", "line one line twothree"),
        ("  spaced\u00a0out\u3000text ", "spaced out text"),
    ],
    [("ÀÉÎ ŒUVRE İstanbul", "àéî œuvre istanbul")],
    [("e.g. 3.14.15 v1.0,2", "eg 3.14.15 v1.0,2 ."), ("...", ".. .")],
    [("short", "a much longer answer than was asked for here"), ("a much longer expected text", "short")],
]
TOKENS = sorted({text for corpus in CORPORA for pair in corpus for text in pair})

scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
cases = []
for corpus in CORPORA:
    expected, got = [a for a, _ in corpus], [b for _, b in corpus]
    cases.append(
        {
            "expected": expected,
            "got": got,
            "bleu": sacrebleu.corpus_bleu(got, [expected]).score,
            "chrf": sacrebleu.corpus_chrf(got, [expected]).score,
            "rouge_l": [scorer.score(a, b)["rougeL"].fmeasure for a, b in corpus],
        }
    )
made_by = {name: version(name) for name in ("sacrebleu", "rouge-score")}
tokenizer = Tokenizer13a()
tokens = {text: tokenizer(text.rstrip()).split() for text in TOKENS}
OUT.write_text(
    json.dumps({"made_by": made_by, "cases": cases, "tokens": tokens}, ensure_ascii=False, indent=1) + "\n"
)
