"""Scores answers about clauses: does the answer quote the clause, word for word? For eval.tasks.scored_by."""
import json
import re
import sys

for line in sys.stdin:
    asked = json.loads(line)
    quoted = re.findall(r'"([^"]+)"', asked["answer"])
    cites = bool(quoted) and all(passage in asked["columns"]["clause"] for passage in quoted)
    print(json.dumps({"cites_the_clause": int(cites), "words": len(asked["answer"].split())}))
