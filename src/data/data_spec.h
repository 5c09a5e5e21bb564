// The `data:` section of a recipe.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/canary_spec.h"
#include "data/reject_spec.h"
#include "spec/fields.h"
#include "text/chat.h"

namespace retort {

// One place samples come from.
struct SourceSpec {
  std::string path, split;
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
  std::string quotes = "double";
  NamedValues roles, fields_of_records;

  template <class Visitor> void fields(Visitor& field) {
    field("path", path, required(not_empty()),
          "file, folder of files of one format, pattern such as data/train-*.jsonl, or a folder that Hugging "
          "Face's datasets saved");
    field(
        "split", split, any(),
        "of a folder that datasets saved with several splits, or whose files are named for their splits: the "
        "one that is read");
    field(
        "format", format,
        one_of({"auto", "jsonl", "json", "csv", "parquet", "arrow", "text", "lines", "icd10cm", "licences"}),
        "how the file is read; auto goes by its ending (.jsonl .ndjson .json .csv .tsv .txt .xml, each also "
        "with .gz or .zst; .parquet .arrow .feather). json: one array of records");
    field("kind", kind,
          one_of({"auto", "messages", "sharegpt", "alpaca", "prompt_completion", "text", "columns"}),
          "what a record holds; auto looks at its first record. columns: 'prompt' and 'completion' below "
          "make the sample");
    field("prompt", prompt, any(),
          "user text with {column} placeholders; {column:800} takes at most 800 bytes of it, {{ is a brace. "
          "Inside of a column: {answers.text}, {choices[0]}, {choices[*, ]} (all, with ', ' between), "
          "{choices[A. ]} (all, on lettered lines)");
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
    field(
        "quotes", quotes, one_of({"double", "none"}),
        "none: quotes in a CSV or TSV file are characters like others; double: a field may stand in quotes");
    field("roles", roles, any(),
          "who speaks, by the file's own words: {patient: user, doctor: assistant}; expected of each is "
          "system, user, assistant, tool, function or developer");
    field("fields", fields_of_records, any(),
          "where records and messages keep what is read, as {messages: dialogue.turns, role: speaker, "
          "content: utterance}");
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

// Which messages are learned. data.loss says it of whole conversations, this of their parts.
struct TrainOnSpec {
  std::vector<std::string> roles = {"assistant"};
  std::string turns = "all";
  std::string reasoning = "by_source";
  bool tool_calls = true;

  bool others() const {  // somebody else than the assistant
    for (const auto& role : roles)
      if (role != "assistant") return true;
    return false;
  }
  bool learns(std::string_view role) const {
    for (const auto& one : roles)
      if (one == role) return true;
    return false;
  }
  bool usual() const { return learns("assistant") && !others() && turns == "all" && tool_calls; }

  template <class Visitor> void fields(Visitor& field) {
    field(
        "roles", roles,
        [] {
          auto rule = one_of({"assistant", "user", "system", "tool", "developer", "function"});
          rule.not_empty = true;
          return rule;
        }(),
        "whose messages are learned; of others than the assistant the words and the token that ends them");
    field("turns", turns, one_of({"all", "last"}),
          "all, or only the last answer of a conversation (as data.loss: last_answer)");
    field("reasoning", reasoning, one_of({"by_source", "learn", "mask", "strip"}),
          "what becomes of thoughts in sources whose own `reasoning` is refuse");
    field("tool_calls", tool_calls, any(), "false: messages that call tools are read and not learned");
  }
};

// Records that are nearly those of another.
struct NearDuplicatesSpec {
  double similarity = 0.8;
  bool remove = false;

  template <class Visitor> void fields(Visitor& field) {
    field("similarity", similarity, between(0.5, 1),
          "least share of common runs of 5 words (Jaccard) from which two records are nearly the same");
    field("remove", remove, any(),
          "leave out all but the first of them, before limit and split; records of sources with use: "
          "held_out stay. `check` counts them either way");
  }
};

struct DataSpec {
  std::vector<SourceSpec> sources;
  std::string chat_template = "auto";
  NamedValues template_arguments;
  SplitSpec held_out;
  int64_t sample_tokens = 2048;
  std::string length = "error";
  std::string keep = "start";
  std::string loss = "completion";
  std::string changed_answers = "own_sample";
  int64_t seed = 7;
  std::string cache;
  TrainOnSpec train_on;
  NearDuplicatesSpec near_duplicates;
  std::string personal_data = "report";
  std::string forget;
  CanarySpec canaries;

  template <class Visitor> void fields(Visitor& field) {
    field.list("sources", sources, "where samples come from");
    field("template", chat_template, not_empty(),
          "auto: the model's own chat template; else the name of one of several that it brings or of a "
          "built-in one, a file that holds one in Jinja, or its text. Exports carry it");
    field("template_arguments", template_arguments, any(),
          "switches of the template, as {enable_thinking: false}; exports carry them too");
    field.section("held_out", held_out, "what is kept for evaluation");
    field("sample_tokens", sample_tokens, between(8, 1 << 20), "longest sample in tokens");
    field("length", length, one_of({"error", "skip", "cut", "split"}),
          "samples longer than sample_tokens: error stops; skip leaves them out; cut shortens the longest "
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
    field.section("train_on", train_on, "which messages are learned");
    field.section("near_duplicates", near_duplicates, "records that are nearly the same as an earlier one");
    field("personal_data", personal_data, one_of({"report", "leave_out"}),
          "records that hold an e-mail address, a phone, bank, card or national number: report has `check` "
          "count them; leave_out does not use them, on neither side");
    field(
        "forget", forget, any(),
        "file of hashes of records that are not used, on neither side and in no evaluation; `retort forget` "
        "adds to it. Empty: none");
    field.section("canaries", canaries,
                  "secrets that are planted into the training samples, to measure what the model gives away");
  }

  WantedTemplate wanted_template() const { return {chat_template, template_arguments.entries}; }
  // Whether the template may be another than the model's own.
  bool names_template() const { return chat_template != "auto" || !template_arguments.entries.empty(); }
};

}  // namespace retort
