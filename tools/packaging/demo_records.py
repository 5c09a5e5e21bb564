"""The 2,000 records of `retort demo`: diagnoses of three chapters of ICD-10-CM (a work of the United States'
government, in the public domain), each with its category of three characters."""

import hashlib
import xml.etree.ElementTree as xml

COUNT = 2000
CHAPTERS = {"4", "7", "9"}  # metabolism, eyes, circulation
LIST = "third_party/inputs/icd10/simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"


def codes_below(diagnosis, category):
    for child in diagnosis.findall("diag"):
        yield child.findtext("name"), child.findtext("desc"), category
        yield from codes_below(child, category)


def demo_records(root):
    """Prompt and completion of each, in an order that says nothing; the same ones every time."""
    found = {}
    for chapter in xml.parse(root / LIST).getroot().findall("chapter"):
        if chapter.findtext("name") not in CHAPTERS:
            continue
        for category in chapter.iterfind("section/diag"):
            for code, description, name in codes_below(category, category.findtext("name")):
                found.setdefault(description, (code, name))
    chosen = sorted(found, key=lambda text: hashlib.sha256(found[text][0].encode()).digest())[:COUNT]
    if len(chosen) < COUNT:
        raise SystemExit(f"tools/package: {LIST}: expected {COUNT} diagnoses, found {len(chosen)}")
    return [{"prompt": text, "completion": found[text][1]} for text in chosen]
