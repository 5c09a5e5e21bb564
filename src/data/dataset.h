// Records -> tokenized samples: split, template, supervision, length.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/data_spec.h"
#include "data/record_plan.h"
#include "forest/samples.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace retort {

// What happened on the way; everything that was not plainly kept is counted.
struct DatasetCounts {
  int64_t records = 0;           // read
  int64_t skipped_long = 0;      // length: skip, or cut where even an empty prompt does not fit
  int64_t cut = 0;               // length: cut
  int64_t split_pieces = 0;      // length: split: samples made of texts that were too long
  int64_t duplicates = 0;        // equal samples (they stay, on one side)
  int64_t repeats = 0;           // weight above 1: copies beyond the first
  int64_t left_out = 0;          // weight below 1: records left out
  int64_t tokens = 0;            // of train and held_out together
  int64_t supervised = 0;        // tokens with a weight above 0
  int64_t longest = 0;           // tokens of the longest sample
  int64_t bad = 0;               // records that the template refuses, left out by on_bad_record: skip
  int64_t changed_answers = 0;   // answers that the template writes otherwise once later turns follow
  int64_t dropped_thoughts = 0;  // answers learned without the thought that their record holds
};

struct Dataset {
  Samples train, held_out;
  std::vector<Record>
      held_out_records;  // one for each sample of held_out, in its order: prompt, expected completion, place
  std::vector<int64_t> held_out_rows;  // their rows in the sources
  DatasetCounts counts;
  std::vector<std::string>
      bad;  // the first of counts.bad: "file:line: what is wrong"; none from a token store
};

// Which of these records are held out, by the hash of the sample (or its group), the seed and `held_out`:
// adding a record never moves another when a fraction is asked for. One entry a record.
std::vector<bool> held_out_records(const DataSpec& spec, const std::vector<Record>& records);

// One record as tokens with 0/1 weights from token spans, every answer where it stands (turns.h). Texts get
// BOS where the tokenizer's convention has one, and EOS.
Sample make_sample(const DataSpec& spec, const Record& record, const Tokenizer& tokenizer,
                   const ChatTemplate& chat);

// Ids of what precedes the answer, with the reply header: what the model continues in evaluation.
std::vector<int32_t> prompt_tokens(const Record& record, const Tokenizer& tokenizer,
                                   const ChatTemplate& chat);

// Where the samples of a data set go as they are made: training samples first, then those held out.
class SampleSink {
 public:
  virtual ~SampleSink() = default;
  virtual void add(const Sample& sample) = 0;
};

// Reads, renders and tokenizes what the plan wants on all threads of the source, into `sink`; the order is
// that of the records. The dataset that is returned has all but the samples. RecipeError or FormatError with
// file:line; nothing of a sample's text is ever in a message.
Dataset make_samples(const DataSpec& spec, const RecordSource& source, const RecordPlan& plan,
                     const Tokenizer& tokenizer, const ChatTemplate& chat, SampleSink& sink);

// The same into memory, packed. threads: 0 = all.
Dataset build_dataset(const DataSpec& spec, const RecordSource& source, const RecordPlan& plan,
                      const Tokenizer& tokenizer, const ChatTemplate& chat);
Dataset build_dataset(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat,
                      int64_t threads = 0);
// Of records that were chosen before: nothing is rejected, and no limit counts.
Dataset build_dataset(const DataSpec& spec, const std::vector<Record>& records, const Tokenizer& tokenizer,
                      const ChatTemplate& chat);

}  // namespace retort
