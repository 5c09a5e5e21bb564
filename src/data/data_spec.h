// The `data:` section of a recipe.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/reject_spec.h"
#include "spec/fields.h"
#include "text/chat.h"

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
  std::string reasoning = "refuse";
  std::string delimiter = "auto", encoding = "utf-8";
  bool skip_empty = false;
  std::string on_bad_record = "stop";
  std::optional<RejectSpec> reject = {};

  template <class Visitor> void fields(Visitor& field) {
    field("path", path, required(not_empty()), "file, or folder for licences and text");
    field(
        "format", format, one_of({"auto", "jsonl", "json", "csv", "text", "lines", "icd10cm", "licences"}),
        "how the file is read; auto goes by its ending (.jsonl .ndjson .json .csv .tsv .txt .xml, each also "
        "with .gz). json: one array of records");
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
          "samples whose text of these {column}s is equal stay on one side of the split; the word prompt "
          "groups by what is asked, so that all answers to one prompt stay together");
    field("weight", weight, above(0),
          "how often each training sample of this source is used in an epoch; 0.5 takes half of them, chosen "
          "by hash");
    field("limit", limit, at_least(0), "use at most this many records, chosen by hash; 0 takes all");
    field("use", use, one_of({"both", "train", "held_out"}),
          "both: split by hash; train or held_out: all records on that side");
    field("reasoning", reasoning, one_of({"refuse", "learn", "mask", "strip"}),
          "thoughts that messages bring in a field of their own (reasoning_content, thinking): refuse stops; "
          "learn puts them before the answer as <think>...</think>; mask does so and learns only what "
          "follows; strip leaves them out. mask and strip are for thoughts inside an answer too");
    field("delimiter", delimiter, one_of({"auto", ",", ";", "tab", "|"}),
          "what separates the fields of a CSV file; auto: what divides its header and its first row into the "
          "same, largest number of fields");
    field("encoding", encoding, one_of({"utf-8", "cp1252", "latin1", "utf-16"}),
          "how the file's characters are written");
    field("skip_empty", skip_empty, any(),
          "leave out records with an empty prompt or answer or with an empty field in a {column} that is "
          "used; they are counted");
    field("on_bad_record", on_bad_record, one_of({"stop", "skip"}),
          "a record that cannot be read or rendered: stop ends with its place; skip leaves it out, counts it "
          "and names the first ten");
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
  NamedValues template_arguments;
  SplitSpec held_out;
  int64_t row_tokens = 2048;
  std::string length = "error";
  std::string keep = "start";
  std::string loss = "completion";
  std::string changed_answers = "own_sample";
  int64_t seed = 7;
  std::string cache;

  template <class Visitor> void fields(Visitor& field) {
    field.list("sources", sources, "where samples come from");
    field("template", chat_template, not_empty(),
          "auto: the model's own chat template; else the name of a built-in one, a file that holds one in "
          "Jinja, or its text. Exports carry it");
    field("template_arguments", template_arguments, any(),
          "switches of the template, as {enable_thinking: false}; exports carry them too");
    field.section("held_out", held_out, "what is kept for evaluation");
    field("row_tokens", row_tokens, between(8, 1 << 20), "longest sample in tokens");
    field("length", length, one_of({"error", "skip", "cut", "split"}),
          "samples longer than row_tokens: error stops; skip leaves them out; cut shortens the longest "
          "message before the answer (answers are never cut; "
          "plain text loses its end); split cuts plain text into several samples. What was done is counted "
          "and reported");
    field(
        "keep", keep, one_of({"start", "end", "ends", "middle"}),
        "what length: cut keeps of a text that it shortens: start loses its end, end loses its beginning (a "
        "question that stands last stays), ends loses what is between them, middle loses both ends");
    field("loss", loss, one_of({"completion", "last_answer", "all"}),
          "which tokens are learned: all answers, the last answer, or every token");
    field(
        "changed_answers", changed_answers, one_of({"own_sample", "leave_out"}),
        "answers that the template writes otherwise once later turns follow (Qwen 3 and DeepSeek drop "
        "earlier thoughts): own_sample makes each a sample that ends with it, as the model meets it when it "
        "answers; leave_out does not learn them");
    field("seed", seed, at_least(0), "names the split and the choice of samples");
    field("cache", cache, any(),
          "HDF5 file that keeps the tokens for the next run; training reads its samples out of it. Empty: "
          "none, they are held in memory");
  }

  WantedTemplate wanted_template() const { return {chat_template, template_arguments.entries}; }
  // Whether the template may be another than the model's own.
  bool names_template() const { return chat_template != "auto" || !template_arguments.entries.empty(); }
};

}  // namespace retort
