// The records of a perplexity or completion task that brings a file of its own, read as training reads its
// sources.
#pragma once
#include <string>
#include <vector>

#include "data/record.h"
#include "eval/eval_spec.h"
#include "forest/samples.h"
#include "text/tokenizer.h"

namespace retort {

bool has_own_records(const EvalTaskSpec& task);  // path or source is set

// What the task's `source` says; for a bare `path` the kind, columns and system text of the source of `data`
// that has files of this format. RecipeError when `path` and `source` are both set, when the sources of this
// format are read in several ways, and for keys of `source` that mean nothing in an evaluation.
SourceSpec task_source(const EvalTaskSpec& task, const DataSpec& data);

// All of them, the first `task.limit`. Errors name the task.
std::vector<Record> task_records(const EvalTaskSpec& task, const DataSpec& data);

// The same as samples, with what `data` says of loss and length. Texts are cut into pieces of `row_tokens`.
std::vector<Sample> task_samples(const EvalTaskSpec& task, const DataSpec& data, const Tokenizer& tokenizer,
                                 const ChatTemplate& chat, int64_t row_tokens);

// Of names and contents of every file that the tasks name: when it changes, results are old.
std::string task_files_hash(const EvalSpec& spec);

}  // namespace retort
