#include "data/dataset.h"

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/stop.h"
#include "data/packed_samples.h"

namespace retort {
namespace {

void weigh(const DataSpec& spec, const RenderedTokens& rendered, Sample& sample) {
  sample.tokens = rendered.tokens;
  sample.weights.assign(rendered.tokens.size(), 0.0f);
  const auto last =
      rendered.answers.empty() ? -1 : *std::max_element(rendered.answers.begin(), rendered.answers.end());
  for (size_t i = 0; i < sample.weights.size(); ++i) {
    const auto answer = rendered.answers[i];
    const bool supervised =
        spec.loss == "all" || (spec.loss == "last_answer" ? answer >= 0 && answer == last : answer >= 0);
    sample.weights[i] = supervised ? 1.0f : 0.0f;
  }
}

// Cuts the longest message before the answer until the sample fits; false when nothing is left to cut.
bool cut_to_fit(const DataSpec& spec, Record record, const Tokenizer& tokenizer, const ChatTemplate& chat,
                Sample& sample) {
  const auto limit = static_cast<size_t>(spec.row_tokens);
  for (int round = 0; round < 64 && sample.tokens.size() > limit; ++round) {
    Message* longest = nullptr;
    for (auto& message : record.messages)
      if (message.role != "assistant" && (!longest || message.content.size() > longest->content.size()))
        longest = &message;
    if (!longest || longest->content.empty()) return false;
    const auto ids = tokenizer.encode(longest->content);
    const size_t excess = sample.tokens.size() - limit + static_cast<size_t>(round);
    size_t kept = ids.size() > excess ? ids.size() - excess : 0;
    std::string content = kept == 0 ? std::string() : tokenizer.decode(std::span(ids).first(kept));
    // A token may end inside a character.
    while (!content.empty() && (static_cast<unsigned char>(content.back()) & 0xC0) == 0x80)
      content.pop_back();
    if (!content.empty() && static_cast<unsigned char>(content.back()) >= 0xC0) content.pop_back();
    if (content.size() >= longest->content.size()) content.resize(longest->content.size() / 2);
    longest->content = content;
    sample = make_sample(spec, record, tokenizer, chat);
  }
  return sample.tokens.size() <= limit;
}

// Consecutive pieces of a text, each at most row_tokens long. Each begins with the last token of the one
// before, so that every token is predicted once.
std::vector<Sample> pieces_of(const Sample& whole, size_t limit) {
  std::vector<Sample> pieces;
  for (size_t begin = 0; begin + 1 < whole.tokens.size(); begin += limit - 1) {
    const auto end = std::min(begin + limit, whole.tokens.size());
    Sample piece;
    piece.id = fmt::format("{}#{}", whole.id, pieces.size() + 1);
    piece.tokens.assign(whole.tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                        whole.tokens.begin() + static_cast<std::ptrdiff_t>(end));
    piece.weights.assign(whole.weights.begin() + static_cast<std::ptrdiff_t>(begin),
                         whole.weights.begin() + static_cast<std::ptrdiff_t>(end));
    piece.weights[0] = 0;
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

// What one record becomes.
struct Made {
  std::vector<Sample> samples;
  int64_t skipped = 0, cut = 0, pieces = 0;
};

Made made_of(const DataSpec& spec, const Record& record, const Tokenizer& tokenizer,
             const ChatTemplate& chat) {
  const auto limit = static_cast<size_t>(spec.row_tokens);
  Made made;
  auto sample = make_sample(spec, record, tokenizer, chat);
  if (sample.tokens.size() <= limit) {
    made.samples.push_back(std::move(sample));
  } else if (spec.length == "error") {
    throw RecipeError(fmt::format(
        "{}: {} tokens, but data.row_tokens is {}; raise it, or set data.length to skip, cut{}", record.place,
        sample.tokens.size(), spec.row_tokens, record.messages.empty() ? " or split" : ""));
  } else if (spec.length == "skip") {
    made.skipped = 1;
  } else if (record.messages.empty()) {
    made.samples = pieces_of(sample, limit);
    if (spec.length == "cut") {
      made.samples.resize(1);
      made.samples[0].id = record.place;
      made.cut = 1;
    } else {
      made.pieces = static_cast<int64_t>(made.samples.size());
    }
  } else if (spec.length == "split") {
    throw RecipeError(
        fmt::format("{}: {} tokens, but data.row_tokens is {}; data.length split is for plain text, a "
                    "conversation can be skipped or cut",
                    record.place, sample.tokens.size(), spec.row_tokens));
  } else if (cut_to_fit(spec, record, tokenizer, chat, sample)) {
    made.samples.push_back(std::move(sample));
    made.cut = 1;
  } else {
    made.skipped = 1;
  }
  return made;
}

void count(const Made& made, int64_t copies, DatasetCounts& counts) {
  counts.skipped_long += made.skipped;
  counts.cut += made.cut;
  counts.split_pieces += made.pieces;
  for (const auto& sample : made.samples) {
    const auto tokens = static_cast<int64_t>(sample.tokens.size());
    counts.tokens += tokens * copies;
    counts.longest = std::max(counts.longest, tokens);
    counts.supervised +=
        std::count_if(sample.weights.begin(), sample.weights.end(), [](float w) { return w > 0; }) * copies;
  }
}

class Packing : public SampleSink {
 public:
  void add(const Sample& sample) override { packed->add(sample); }
  std::shared_ptr<PackedSamples> packed = std::make_shared<PackedSamples>();
};

}  // namespace

std::vector<bool> held_out_records(const DataSpec& spec, const std::vector<Record>& records) {
  std::vector<bool> held;
  for (const auto& row : plan_chosen(spec, RecordList(records)).rows)
    held.push_back(row.side == Side::held_out);
  return held;
}

Sample make_sample(const DataSpec& spec, const Record& record, const Tokenizer& tokenizer,
                   const ChatTemplate& chat) {
  Sample sample;
  sample.id = record.place;
  if (record.messages.empty()) {
    if (tokenizer.add_bos && tokenizer.bos) sample.tokens.push_back(*tokenizer.bos);
    const auto ids = tokenizer.encode(record.text);
    sample.tokens.insert(sample.tokens.end(), ids.begin(), ids.end());
    if (tokenizer.eos) sample.tokens.push_back(*tokenizer.eos);
    sample.weights.assign(sample.tokens.size(), 1.0f);
  } else {
    try {
      weigh(spec, render_tokens(chat, tokenizer, record.messages, false), sample);
    } catch (const RecipeError& error) { throw RecipeError(record.place + ": " + error.what()); }
  }
  if (!sample.weights.empty()) sample.weights[0] = 0;  // nothing predicts the first token
  return sample;
}

std::vector<int32_t> prompt_tokens(const Record& record, const Tokenizer& tokenizer,
                                   const ChatTemplate& chat) {
  if (record.messages.empty())
    return tokenizer.add_bos && tokenizer.bos ? std::vector<int32_t>{*tokenizer.bos} : std::vector<int32_t>{};
  return render_tokens(chat, tokenizer, record.prompt(), true).tokens;
}

Dataset make_samples(const DataSpec& spec, const RecordSource& source, const RecordPlan& plan,
                     const Tokenizer& tokenizer, const ChatTemplate& chat, SampleSink& sink) {
  Dataset dataset;
  auto& counts = dataset.counts;
  counts.records = plan.records;
  counts.duplicates = plan.duplicates;
  counts.repeats = plan.repeats;
  counts.left_out = plan.left_out;
  const auto planned = [&](int64_t row) -> PlannedRow {
    return row < static_cast<int64_t>(plan.rows.size()) ? plan.rows[static_cast<size_t>(row)] : PlannedRow{};
  };
  int64_t train = 0;
  PackedSamples held_out;  // they come last in the sink
  const auto take_training = [&](const Made& made, int64_t copies) {
    count(made, copies, counts);
    for (const auto& sample : made.samples)
      for (int64_t copy = 0; copy < copies; ++copy, ++train) sink.add(sample);
  };
  const auto take_held_out = [&](int64_t row, const Made& made, const Record& record) {
    count(made, 1, counts);
    for (const auto& sample : made.samples) {
      held_out.add(sample);
      dataset.held_out_records.push_back(record);
      dataset.held_out_rows.push_back(row);
    }
  };
  source.pass([&](int64_t row) { return planned(row).copies > 0; },
              [&](int64_t row, Record record) -> RecordSource::Later {
                auto made = std::make_shared<const Made>(made_of(spec, record, tokenizer, chat));
                const auto [side, copies] = planned(row);
                if (side == Side::train)
                  return [&take_training, made, times = copies] { take_training(*made, times); };
                return [&take_held_out, made, row, kept = std::make_shared<const Record>(std::move(record))] {
                  take_held_out(row, *made, *kept);
                };
              });
  if (train == 0)
    throw RecipeError(fmt::format(
        "data: no training sample is left of {} records ({} too long); check sources, length and held_out",
        counts.records, counts.skipped_long));
  for (size_t i = 0; i < held_out.size(); ++i) {
    if (i % 1024 == 0) leave_if_stopped("tokenizing samples");
    sink.add(held_out.read(i));
  }
  return dataset;
}

Dataset build_dataset(const DataSpec& spec, const RecordSource& source, const RecordPlan& plan,
                      const Tokenizer& tokenizer, const ChatTemplate& chat) {
  Packing packing;
  auto dataset = make_samples(spec, source, plan, tokenizer, chat, packing);
  const auto held_out = dataset.held_out_rows.size(), train = packing.packed->size() - held_out;
  dataset.train = Samples(packing.packed, 0, train);
  dataset.held_out = Samples(packing.packed, train, held_out);
  return dataset;
}

Dataset build_dataset(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat,
                      int64_t threads) {
  const SourceFiles files(spec.sources, threads);
  return build_dataset(spec, files, plan_records(spec, files), tokenizer, chat);
}

Dataset build_dataset(const DataSpec& spec, const std::vector<Record>& records, const Tokenizer& tokenizer,
                      const ChatTemplate& chat) {
  const RecordList list(records);
  return build_dataset(spec, list, plan_chosen(spec, list), tokenizer, chat);
}

}  // namespace retort
