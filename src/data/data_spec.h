// The `data:` section of a recipe.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/reject_spec.h"
#include "spec/fields.h"

namespace retort {

// One place samples come from.
struct SourceSpec {
  std::string path;
  std::string format = "auto";
  std::string kind = "auto";
  std::string prompt, completion, system, group;  // texts with {column} placeholders
  double weight = 1;
  int64_t limit = 0;
  std::string use = "both";
  std::optional<RejectSpec> reject = {};

  template <class Visitor> void fields(Visitor& field) {
    field("path", path, required(not_empty()), "file, or folder for licences and text");
    field("format", format, one_of({"auto", "jsonl", "csv", "text", "lines", "icd10cm", "licences"}),
          "how the file is read; auto goes by its ending (.jsonl .ndjson .csv .tsv .txt .xml)");
    field("kind", kind,
          one_of({"auto", "messages", "sharegpt", "alpaca", "prompt_completion", "text", "columns"}),
          "what a record holds; auto looks at its first record. columns: 'prompt' and 'completion' below "
          "make the sample");
    field("prompt", prompt, any(),
          "user text with {column} placeholders; {column:800} takes at most 800 bytes of it, {{ is a brace");
    field("completion", completion, any(), "answer with {column} placeholders");
    field("system", system, any(),
          "system text; with {column} placeholders where there are columns. Put before records that bring "
          "none");
    field("group", group, any(),
          "samples whose text of these {column}s is equal stay on one side of the split");
    field("weight", weight, above(0),
          "how often each training sample of this source is used in an epoch; 0.5 takes half of them, chosen "
          "by hash");
    field("limit", limit, at_least(0), "use at most this many records, chosen by hash; 0 takes all");
    field("use", use, one_of({"both", "train", "held_out"}),
          "both: split by hash; train or held_out: all records on that side");
    field.section("reject", reject,
                  "records that are left out, for answers that a model generated; before limit and split");
  }
};

// Which samples are never trained on.
struct SplitSpec {
  double fraction = 0.05;
  int64_t count = 0;

  template <class Visitor> void fields(Visitor& field) {
    field("fraction", fraction, between(0, 0.9),
          "share of the samples held out, chosen by the hash of the sample and the seed");
    field("count", count, at_least(0), "if above 0: hold out this many samples instead of a share");
  }
};

struct DataSpec {
  std::vector<SourceSpec> sources;
  std::string chat_template = "auto";
  SplitSpec held_out;
  int64_t row_tokens = 2048;
  std::string length = "error";
  std::string loss = "completion";
  int64_t seed = 7;
  std::string cache;

  template <class Visitor> void fields(Visitor& field) {
    field.list("sources", sources, "where samples come from");
    field("template", chat_template, not_empty(),
          "chat template by name; auto: by the hash of the model's own");
    field.section("held_out", held_out, "what is kept for evaluation");
    field("row_tokens", row_tokens, between(8, 1 << 20), "longest sample in tokens");
    field("length", length, one_of({"error", "skip", "cut", "split"}),
          "samples longer than row_tokens: error stops; skip leaves them out; cut shortens the longest "
          "message before the answer (answers are never cut; "
          "plain text loses its end); split cuts plain text into several samples. What was done is counted "
          "and reported");
    field("loss", loss, one_of({"completion", "last_answer", "all"}),
          "which tokens are learned: all answers, the last answer, or every token");
    field("seed", seed, at_least(0), "names the split and the choice of samples");
    field("cache", cache, any(),
          "HDF5 file that keeps the tokens for the next run; training reads its samples out of it. Empty: "
          "none, they are held in memory");
  }
};

}  // namespace retort
