#!/usr/bin/env python3
"""Goldens for tests/tables and tests/data: Parquet and Arrow files of pyarrow, folders that `datasets` saved,
and the rows as Python has them.

Run: third_party/peers/bin/python tools/golden/tables.py
"""
import datetime
import decimal
import importlib.metadata
import json
import pathlib
import shutil

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "tables"
BERLIN = datetime.timezone(datetime.timedelta(hours=2))

COLUMNS = [
    ("text", pa.string(), ['Größe "x"\n\t\x01\\', "", None, "日本語"]),
    ("large", pa.large_string(), ["a", None, "c", "d"]),
    ("whole", pa.int64(), [-(2**63), 2**63 - 1, None, 0]),
    ("unsigned", pa.uint64(), [2**64 - 1, 0, 1, None]),
    ("small", pa.int8(), [-128, 127, 0, None]),
    ("real", pa.float64(), [0.1, 1e-7, 1e22, -2.0]),
    ("single", pa.float32(), [0.5, -3.0, None, 65536.0]),
    ("yes", pa.bool_(), [True, False, None, True]),
    ("none", pa.null(), [None, None, None, None]),
    ("exact", pa.decimal128(25, 2), [decimal.Decimal("12345678901234567890123.45"), None, "1.50", "-0.05"]),
    (
        "day",
        pa.date32(),
        [datetime.date(2024, 2, 29), None, datetime.date(1969, 12, 31), datetime.date(1, 1, 1)],
    ),
    (
        "when",
        pa.timestamp("us"),
        [
            datetime.datetime(2024, 5, 1, 10, 20, 30),
            None,
            datetime.datetime(1960, 1, 1, 0, 0, 0, 1),
            datetime.datetime(9999, 12, 31, 23, 59, 59),
        ],
    ),
    (
        "zoned",
        pa.timestamp("s", tz="UTC"),
        [datetime.datetime(2024, 5, 1, 1, 0, 0, tzinfo=BERLIN), None, None, None],
    ),
    ("time", pa.time64("us"), [datetime.time(23, 59, 59, 5), None, datetime.time(0), None]),
    ("bytes", pa.binary(), [b"text", b"\xff\xfe\x00", None, b""]),
    ("list", pa.list_(pa.string()), [["red", "blue"], [], None, [None]]),
    ("pair", pa.list_(pa.int32(), 2), [[1, 2], None, [3, 4], [5, None]]),
    (
        "choices",
        pa.struct([("text", pa.list_(pa.string())), ("label", pa.list_(pa.string()))]),
        [
            {"text": ["red", "blue"], "label": ["A", "B"]},
            None,
            {"text": [], "label": None},
            {"text": ["x"], "label": ["A"]},
        ],
    ),
    (
        "messages",
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        [
            [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            [],
            None,
            [{"role": "user", "content": None}],
        ],
    ),
    ("map", pa.map_(pa.string(), pa.int64()), [[("b", 1), ("a", 2)], [], None, [("x", None)]]),
]


def table() -> pa.Table:
    arrays = {}
    for name, kind, values in COLUMNS:
        if pa.types.is_decimal(kind):
            values = [v if v is None else decimal.Decimal(v) for v in values]
        arrays[name] = pa.array(values, kind)
    arrays["code"] = pa.array(["J45", "E11", "J45", None]).dictionary_encode()
    return pa.table(arrays)


def spelled(value, kind=None) -> str:
    """As json.dumps spells it; a decimal number keeps its digits, bytes that are no text are counted."""
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        try:
            return (
                json.dumps(value.decode(), ensure_ascii=False)
                if b"\0" not in value
                else f'{{"bytes": {len(value)}}}'
            )
        except UnicodeDecodeError:
            return f'{{"bytes": {len(value)}}}'
    if isinstance(value, (datetime.date, datetime.time)):
        return json.dumps(value.isoformat().replace("+00:00", "Z"))
    if isinstance(value, list) and kind is not None and pa.types.is_map(kind):
        value = dict(value)
    if isinstance(value, dict):
        return "{" + ", ".join(json.dumps(k) + ": " + spelled(v) for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(spelled(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def write_tables() -> None:
    every = table()
    pa.parquet.write_table(every, OUT / "snappy.parquet")
    encodings = {"whole": "DELTA_BINARY_PACKED", "text": "DELTA_LENGTH_BYTE_ARRAY"}
    pages = {"data_page_version": "2.0", "row_group_size": 3, "use_dictionary": False}
    pa.parquet.write_table(
        every, OUT / "pages2.parquet", compression="zstd", column_encoding=encodings, **pages
    )
    pa.feather.write_feather(every, OUT / "lz4.feather", compression="lz4")
    with pa.OSFile(str(OUT / "stream.arrow"), "wb") as file, pa.ipc.new_stream(file, every.schema) as writer:
        writer.write_table(every, max_chunksize=3)
    lines = []
    for row in every.to_pylist():
        fields = (f"{json.dumps(k)}: {spelled(v, every.schema.field(k).type)}" for k, v in row.items())
        lines.append("{" + ", ".join(fields) + "}\n")
    (OUT / "rows.jsonl").write_text("".join(lines))
    write_bomb()
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    with pa.OSFile(str(OUT / "union.arrow"), "wb") as file:
        batch = pa.table({"q": pa.array(["x", "y"]), "either": union})
        with pa.ipc.new_stream(file, batch.schema) as writer:
            writer.write_table(batch)


def write_questions() -> None:
    """Records as people have them, for `retort init`."""
    rows = range(24)
    questions = pa.table(
        {
            "case": pa.array([f"c{i}" for i in rows]),
            "Question": pa.array([f"How long may swarm {i} wait?" for i in rows]),
            "Answer": pa.array([f"About {i + 2} days, as the house rules say." for i in rows]),
        }
    )
    pa.parquet.write_table(questions, OUT / "questions.parquet")


def write_bomb() -> None:
    """8 MiB of text a row, a thousand times, in some kilobytes."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["a" * (8 << 20)]))
    pa.parquet.write_table(
        pa.table({"text": texts}), OUT / "bomb.parquet", compression="zstd", store_schema=False
    )
    nothing = pa.table({"none": pa.nulls(150_000_000)})  # becomes 1.8 GB of {"none": null}
    pa.parquet.write_table(
        nothing,
        OUT / "nulls.parquet",
        compression="zstd",
        row_group_size=150_000_000,
        write_batch_size=30_000_000,
        max_rows_per_page=150_000_000,
    )


def write_saved() -> None:
    rows = [{"q": f"question {i}", "a": {"text": [f"answer {i}"], "start": [i]}} for i in range(5)]
    features = datasets.Features(
        {
            "q": datasets.Value("string"),
            "a": {
                "text": datasets.List(datasets.Value("string")),
                "start": datasets.List(datasets.Value("int32")),
            },
        }
    )
    train = datasets.Dataset.from_list(rows, features=features)
    test = datasets.Dataset.from_list(
        [{"q": "held out", "a": {"text": ["z"], "start": [0]}}], features=features
    )
    train.select([4, 1, 0]).save_to_disk(str(OUT / "chosen"))  # another order, and fewer
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(
        str(OUT / "splits"), num_shards={"train": 2, "test": 1}
    )


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    write_tables()
    write_questions()
    write_saved()
    made_by = {name: importlib.metadata.version(name) for name in ("pyarrow", "datasets")}
    (OUT / "made_by.json").write_text(json.dumps(made_by, indent=1) + "\n")


if __name__ == "__main__":
    main()
