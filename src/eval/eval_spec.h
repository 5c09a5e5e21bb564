// The `eval:` and `gate:` sections of a recipe.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/data_spec.h"
#include "ops/kv_type.h"
#include "spec/fields.h"

namespace retort {

// The user's own program that scores answers.
struct ScoredBySpec {
  std::vector<std::string> command, scores;
  int64_t seconds = 600;
  bool told = true;  // what it writes may stand in messages; no key: a private recipe says otherwise

  template <class Visitor> void fields(Visitor& field) {
    field("command", command, required(not_empty()),
          "program and arguments, as [python3, score.py]. It is started once for each model, reads one JSON "
          "object a line and writes one line of scores for each: docs/scores.md. It is not confined");
    field("scores", scores, required(not_empty()),
          "the names of its scores, each a metric of the task with an interval, which gates may name; larger "
          "is "
          "better");
    field("seconds", seconds, between(1, 1 << 20), "how long it may take, for all answers together");
  }
};

struct EvalTaskSpec {
  std::string kind = "completion";
  std::string name;
  std::string path;
  std::optional<SourceSpec> source = {};
  std::string examples;
  int64_t few_shot = 0;
  int64_t limit = 0;
  int64_t max_tokens = 64;
  std::string score = "letter";
  std::string ask = "auto", prompt, system;
  bool execute = false;
  int64_t samples = 1;
  double temperature = 0.8;
  std::optional<ScoredBySpec> scored_by = {};
  bool keeps_texts = true;  // completions of code are written; no key: a private recipe says otherwise

  const std::string& label() const { return name.empty() ? kind : name; }
  template <class Visitor> void fields(Visitor& field) {
    field(
        "kind", kind,
        one_of({"perplexity", "completion", "multiple_choice", "numeric", "code", "exposure", "membership"}),
        "perplexity: of the supervised tokens; completion: greedy answers against the expected ones; "
        "multiple_choice: by likelihood (arXiv:2009.03300); "
        "numeric: the final number or formula of a solution (arXiv:2103.03874); code: HumanEval problems "
        "(arXiv:2107.03374); exposure: how much likelier the canaries of `data` are than texts that were "
        "never learned (arXiv:1802.08232); membership: how well training samples can be told from those "
        "held out, by their losses (arXiv:1709.01604)");
    field("name", name, any(), "how the report and the gates call it; empty: its kind");
    field("path", path, any(),
          "question file (as data.sources reads files, packed ones included), or samples for perplexity and "
          "completion: they are read as the "
          "source of `data` with this format is, its columns and system text included; empty: the held-out "
          "samples of `data`");
    field.section("source", source,
                  "perplexity and completion: samples with settings of their own, instead of path");
    field("examples", examples, any(), "file of worked examples for few_shot, in the format of `path`");
    field("few_shot", few_shot, between(0, 64),
          "examples put before each question; they are computed once for all questions");
    field("limit", limit, at_least(0),
          "use the first so many samples; 0 = all. membership: so many of each side, drawn by data.seed; 0 = "
          "1000");
    field("max_tokens", max_tokens, between(1, 1 << 20), "longest answer in tokens");
    field("score", score, one_of({"letter", "text"}),
          "multiple_choice: compare the letters of the options, or their whole texts");
    field(
        "ask", ask, one_of({"auto", "chat", "plain"}),
        "multiple_choice and numeric: chat puts a question as the user's message in the template of `data`, "
        "examples as earlier turns; plain as a text that goes on, as lm-evaluation-harness does; auto: chat, "
        "but multiple choice plain where the template is plain");
    field("prompt", prompt, any(),
          "multiple_choice and numeric, asked as chat: the user's text with {question} and, of a choice, "
          "{options} (a lettered line each) or {A}, {B}, ...; empty: question, options and 'Answer:', or the "
          "problem and that the answer goes within \\boxed{}");
    field("system", system, any(), "multiple_choice and numeric, asked as chat: the system message");
    field(
        "execute", execute, any(),
        "code: run every completion with its problem's tests, by python3 in a process without network, files "
        "and other processes, with 10 seconds and 1 GiB; false: completions are written and not run");
    field(
        "samples", samples, between(1, 1000),
        "code: completions drawn for each problem, from which pass@k is estimated without bias; 1 is greedy");
    field("temperature", temperature, above(0), "code: of the draws, where samples is above 1");
    field.section("scored_by", scored_by, "completion: a program of yours that scores the answers");
  }
};

struct EvalSpec {
  std::vector<EvalTaskSpec> tasks;
  int64_t threads = 0;
  int64_t pass_tokens = 1024;
  int64_t batch = 32;
  std::string kv = "auto";

  template <class Visitor> void fields(Visitor& field) {
    field.list("tasks", tasks,
               "what is measured, on the base model, the tuned model and the exported file alike");
    field("threads", threads, between(0, 4096), "worker threads; 0 = as many as the machine has");
    field("pass_tokens", pass_tokens, between(16, 1 << 20), "tokens of one pass at most");
    field("batch", batch, between(1, 4096),
          "answers that are generated together; where some have ended, others take their places");
    field("kv", kv, one_of({"auto", "f32", "bf16", "int8"}), kKvDocumentation);
  }
};

// What gates call the comparison of an exported model with the trained one: comparison.kl_nats,
// comparison.top1.
inline constexpr const char* kComparison = "comparison";

// One line of the gate: the run exits 1 when it does not hold.
struct BoundSpec {
  std::string metric;
  std::string model = "exported";
  std::optional<double> at_least, at_most;
  std::optional<double> worse_than_base_by;
  std::string against_base = "any";

  bool unbounded() const { return !at_least && !at_most && !worse_than_base_by && against_base == "any"; }
  template <class Visitor> void fields(Visitor& field) {
    field("metric", metric, required(not_empty()),
          "task.metric, as the report names it: completion.exact_match, perplexity.nats_per_token; "
          "comparison.kl_nats and comparison.top1 compare an exported model with the trained one");
    field("model", model, one_of({"tuned", "exported"}),
          "which model must hold the bound; exported: every exported model");
    field("at_least", at_least, any(), "smallest value that passes");
    field("at_most", at_most, any(), "largest value that passes");
    field("worse_than_base_by", worse_than_base_by, at_least_zero(),
          "how much worse than the base model's value may be; 0 = not worse at all");
    field(
        "against_base", against_base, one_of({"any", "better", "not_worse"}),
        "what the paired test over the samples must say (McNemar's, or for nats the bootstrap; 95 %): better "
        "= significantly better than the base; not_worse = not significantly worse");
  }

 private:
  static Rule at_least_zero() { return retort::at_least(0); }
};

}  // namespace retort
