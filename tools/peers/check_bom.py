#!/usr/bin/env python3
"""Bills of materials against CycloneDX's own schema, and against the files beside them:

    check_bom.py PATH ...     files of CycloneDX, or folders that hold bom.cdx.json (a run's export)

Each is valid CycloneDX 1.7 (cyclonedx-python-lib brings the schema), has references that lead somewhere,
package URLs and licence expressions that can be read, and hashes that are those of the files. Of a model's
bill it counts the fields that OWASP's AIBOM generator counts (src/models/field_registry.json at commit
c5a3f2f) and asks for those that a run always knows.
"""
import hashlib
import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing
from packageurl import PackageURL

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_7)
LICENSES = get_spdx_licensing()
CARD = "genai:aibom:modelcard:"
# OWASP's fields by category with the category's points. A text is the name of a property of the metadata; a
# pair says where else the field is: of the document, of its first component, of its model card or among that
# card's properties. (The generator itself looks for its field of external references under a name that
# CycloneDX does not have, and so gives 2.9 points fewer.)
FIELDS = {
    ("required fields", 20): [
        ("document", "bomFormat"),
        ("document", "specVersion"),
        ("document", "serialNumber"),
        ("document", "version"),
    ],
    ("metadata", 20): [
        "primaryPurpose",
        ("component", "supplier"),
        "standardCompliance",
        "domain",
        "autonomyType",
    ],
    ("component", 20): [
        ("component", "name"),
        ("component", "type"),
        ("component", "version"),
        ("component", "purl"),
        ("component", "description"),
        ("component", "licenses"),
        ("component", "externalReferences"),
    ],
    ("model card", 30): [
        ("parameters", "datasets"),
        ("parameters", "modelArchitecture"),
        ("considerations", "technicalLimitations"),
        ("considerations", "ethicalConsiderations"),
        ("considerations", "environmentalConsiderations"),
        "intendedUse",
        "safetyRiskAssessment",
        "energyQuantity",
        "energyUnit",
        "informationAboutTraining",
        "informationAboutApplication",
        "metric",
        "metricDecisionThreshold",
        "modelDataPreprocessing",
        "useSensitivePersonalInformation",
        ("card", "hyperparameter"),
        ("card", "modelCardExplainability"),
        ("card", "vocabSize"),
        ("card", "tokenizerClass"),
        ("card", "contextLength"),
        ("card", "embeddingLength"),
        ("card", "blockCount"),
        ("card", "attentionHeadCount"),
        ("card", "attentionHeadCountKV"),
        ("card", "feedForwardLength"),
        ("card", "ropeDimensionCount"),
        ("card", "quantizationVersion"),
        ("card", "quantizationFileType"),
    ],
    ("external references", 10): [
        ("reference", "documentation"),
        ("reference", "distribution"),
        ("reference", "vcs"),
        ("reference", "website"),
    ],
}
# Whose absence weighs more than its share.
CRITICAL = [
    *FIELDS[("required fields", 20)],
    "primaryPurpose",
    *(("component", name) for name in ("supplier", "name", "type", "version")),
]
IMPORTANT = [
    *(("component", name) for name in ("purl", "description", "licenses")),
    ("parameters", "datasets"),
    ("parameters", "modelArchitecture"),
    *(
        ("considerations", name)
        for name in ("ethicalConsiderations", "environmentalConsiderations", "technicalLimitations")
    ),
    ("card", "hyperparameter"),
    "safetyRiskAssessment",
    "intendedUse",
    ("reference", "distribution"),
]
SHAPE = FIELDS[("model card", 30)][-11:]  # of the network: counted where they are filled
# What a run knows whatever its recipe says.
KNOWN = [
    *FIELDS[("required fields", 20)],
    "primaryPurpose",
    *(
        ("component", name)
        for name in ("name", "type", "version", "purl", "description", "externalReferences")
    ),
    ("parameters", "datasets"),
    ("parameters", "modelArchitecture"),
    ("considerations", "technicalLimitations"),
    "modelDataPreprocessing",
    ("card", "hyperparameter"),
    ("reference", "documentation"),
    ("reference", "distribution"),
]
failed = 0


def require(holds, file, what):
    global failed
    if not holds:
        failed += 1
        print(f"FAIL {file}: {what}", flush=True)


def everything(value):
    """Every object of a document."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from everything(one)
    elif isinstance(value, list):
        for one in value:
            yield from everything(one)


def check_references(file, bill):
    objects = list(everything(bill))
    refs = [one["bom-ref"] for one in objects if "bom-ref" in one]
    require(len(refs) == len(set(refs)), file, "a bom-ref stands twice")
    for one in bill.get("dependencies", []):
        for ref in [one["ref"], *one.get("dependsOn", [])]:
            require(ref in refs, file, f"dependencies: {ref} is no component's")
    for one in bill.get("compositions", []):
        for ref in [*one.get("assemblies", []), *one.get("dependencies", [])]:
            require(ref in refs, file, f"compositions: {ref} is no component's")
    for one in objects:
        if set(one) == {"ref"}:
            require(one["ref"] in refs, file, f"{one['ref']} is no component's")
        if "purl" in one:
            again = PackageURL.from_string(one["purl"]).to_string()
            require(one["purl"].split("?")[0] == again.split("?")[0], file, f"{one['purl']}: is {again}")
        if "expression" in one:
            errors = LICENSES.validate(one["expression"]).errors
            require(not errors, file, f"{one['expression']}: {errors}")


def same_file(path, hashes):
    digest = hashlib.file_digest(open(path, "rb"), "sha256").hexdigest()
    return hashes == [{"alg": "SHA-256", "content": digest}]


def listed_files(file, bill):
    """(path, hashes) of what lies beside the bill: a model's exports, or a program's files."""
    if bill["metadata"]["component"]["type"] == "machine-learning-model":
        for component in bill["components"]:
            if (
                component["type"] == "machine-learning-model" and "version" in component
            ):  # base and data have none
                for part in component.get("components", [component]):
                    yield file.parent / part["name"], part["hashes"]
        return
    root = file.parents[3] if file.parent.as_posix().endswith("share/doc/retort") else file.parent
    for component in everything(bill["components"]):
        if component.get("type") == "file":
            yield root / component["name"], component["hashes"]


def check_files(file, bill):
    """How many of them have the hashes that the bill has of them."""
    count = 0
    for path, hashes in listed_files(file, bill):
        require(path.is_file(), file, f"{path}: is listed, and missing")
        if path.is_file():
            require(same_file(path, hashes), file, f"{path}: has another hash")
            count += 1
    require(count, file, "lists no file")
    return count


def is_filled(bill, field):
    component = bill["components"][0]
    card = component.get("modelCard", {})
    if isinstance(field, str):
        properties = bill["metadata"].get("properties", [])
        return any(one["name"] == field and one.get("value") for one in properties)
    where, name = field
    if where == "card":
        return any(one["name"] == CARD + name and one.get("value") for one in card.get("properties", []))
    if where == "reference":
        of = bill["metadata"]["component"] if name == "documentation" else component
        return any(one["type"] == name and one["url"] for one in of.get("externalReferences", []))
    places = {
        "document": bill,
        "component": component,
        "parameters": card.get("modelParameters", {}),
        "considerations": card.get("considerations", {}),
    }
    return bool(places[where].get(name))


def check_model(file, bill):
    """OWASP's points, and the fields that are empty."""
    points, count, empty = 0, 0, []
    for (_, most), fields in FIELDS.items():
        filled = [field for field in fields if is_filled(bill, field)]
        counted = [field for field in fields if field in filled or field not in SHAPE]
        points += round(most * len(filled) / len(counted), 1)
        count += len(counted)
        empty += [field for field in counted if field not in filled]
    critical = sum(field in CRITICAL for field in empty)
    points *= 0.8 if critical > 3 else 0.9 if critical >= 2 else 1
    points *= 0.95 if sum(field in IMPORTANT for field in empty) >= 5 else 1
    empty = [field if isinstance(field, str) else field[1] for field in empty]
    for field in KNOWN:
        require(is_filled(bill, field), file, f"{field}: empty, and a run knows it")
    return f"{count - len(empty)} of {count} fields, {points:.1f} of 100 points; empty: {', '.join(empty)}"


def check(file):
    text = file.read_text(encoding="utf-8")
    errors = VALIDATOR.validate_str(text)
    require(not errors, file, f"is no CycloneDX 1.7: {errors}")
    bill = json.loads(text)
    require(bill["specVersion"] == "1.7", file, f"is of version {bill['specVersion']}")
    check_references(file, bill)
    said = f"{len(bill['components'])} components, {check_files(file, bill)} files with their hashes"
    if bill["metadata"]["component"]["type"] == "machine-learning-model":
        said += f"; {check_model(file, bill)}"
    print(f"{file}: {said}", flush=True)


def main():
    files = []
    for word in sys.argv[1:]:
        path = pathlib.Path(word)
        files += sorted(path.rglob("bom.cdx.json")) if path.is_dir() else [path]
    if not files:
        sys.exit(__doc__)
    for file in files:
        check(file)
    print(f"check_bom: {len(files)} bills, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
