#include "data/dataset.h"

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/stop.h"
#include "data/canaries.h"
#include "data/packed_samples.h"
#include "data/train_on.h"
#include "data/turns.h"
#include "text/chat_pieces.h"
#include "text/template_thoughts.h"

namespace retort {
namespace {

// The first token of this answer behind its thought; its first where it has none. RecipeError where the
// thought is there and nothing marks its end.
size_t behind_thought(const Message& message, const RenderedTokens& rendered, int32_t answer,
                      const Tokenizer& tokenizer, const ThoughtMarks& own) {
  const auto first = static_cast<size_t>(std::find(rendered.answers.begin(), rendered.answers.end(), answer) -
                                         rendered.answers.begin());
  std::string text, all;
  size_t behind = first;
  const auto look_for = [&](std::string_view close, size_t i) {
    if (const auto at = close.empty() ? std::string::npos : text.find(close); at != std::string::npos) {
      behind = i + 1;
      text.erase(0, at + close.size());
    }
  };
  for (size_t i = first; i < rendered.tokens.size() && rendered.answers[i] == answer; ++i) {
    const auto id = rendered.tokens[i];
    const auto token = tokenizer.is_special(id) ? tokenizer.token_text(id) : tokenizer.token_bytes(id);
    text += token;
    all += token;
    for (const auto close : thought_ends()) look_for(close, i);
    look_for(own.close, i);
  }
  if (behind == first && !message.thought.empty() && all.find(trimmed(message.thought)) != std::string::npos)
    throw RecipeError(fmt::format(
        "message {}: the chat template does not mark where a thought ends, so that it cannot be masked "
        "(data.sources.reasoning)",
        answer + 1));
  return behind;
}

void weigh(const DataSpec& spec, const std::vector<Message>& messages, const Tokenizer& tokenizer,
           const ChatTemplate& chat, const RenderedTokens& rendered, Sample& sample) {
  sample.tokens = rendered.tokens;
  sample.weights.assign(rendered.tokens.size(), 0.0f);
  const auto last =
      rendered.answers.empty() ? -1 : *std::max_element(rendered.answers.begin(), rendered.answers.end());
  std::vector<size_t> begins(messages.size(), 0);  // of what is learned of a message
  for (size_t m = 0; m < messages.size(); ++m) {
    if (messages[m].learned == Learned::nothing) begins[m] = sample.weights.size();
    if (messages[m].learned == Learned::after_thought)
      begins[m] =
          behind_thought(messages[m], rendered, static_cast<int32_t>(m), tokenizer, kept_thought_marks(chat));
  }
  for (size_t i = 0; i < sample.weights.size(); ++i) {
    const auto answer = rendered.answers[i];
    const bool last_only = spec.loss == "last_answer" || spec.train_on.turns == "last";
    const bool wanted = spec.loss == "all" || (answer >= 0 && (!last_only || answer == last));
    sample.weights[i] = wanted && (answer < 0 || i >= begins[static_cast<size_t>(answer)]) ? 1.0f : 0.0f;
  }
}

// Without what a cut leaves of characters at both ends.
std::string whole_characters(std::string text) {
  size_t begin = 0;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) ++begin;
  size_t end = text.size();
  while (end > begin && (static_cast<unsigned char>(text[end - 1]) & 0xC0) == 0x80) --end;
  if (end > begin) {
    const auto lead = static_cast<unsigned char>(text[end - 1]);
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (end - 1 + length <= text.size()) end += length - 1;
    else --end;
  }
  return text.substr(begin, end - begin);
}

// `kept` tokens of a text, from where data.keep says.
std::string shortened(const std::vector<int32_t>& ids, size_t kept, std::string_view keep,
                      const Tokenizer& tokenizer) {
  const std::span all(ids);
  const auto text = [&](size_t begin, size_t count) {
    return whole_characters(tokenizer.decode(all.subspan(begin, count)));
  };
  if (keep == "end") return text(ids.size() - kept, kept);
  if (keep == "middle") return text((ids.size() - kept) / 2, kept);
  if (keep == "ends" && kept >= 2)
    return text(0, kept - kept / 2) + "\n...\n" + text(ids.size() - kept / 2, kept / 2);
  return text(0, kept);
}

// Cuts the longest message before the answer until the sample fits; false when a message would be empty.
bool cut_to_fit(const DataSpec& spec, Record record, const Tokenizer& tokenizer, const ChatTemplate& chat,
                Sample& sample) {
  const auto limit = static_cast<size_t>(spec.sample_tokens);
  const auto whole = record.messages;  // each round cuts what the record holds
  std::vector<size_t> kept(whole.size(), SIZE_MAX);
  for (int round = 0; round < 64 && sample.tokens.size() > limit; ++round) {
    Message* longest = nullptr;
    for (auto& message : record.messages)
      if (message.role != "assistant" && (!longest || message.content.size() > longest->content.size()))
        longest = &message;
    if (!longest) return false;
    const auto which = static_cast<size_t>(longest - record.messages.data());
    const auto ids = tokenizer.encode(whole[which].content);
    const size_t excess = sample.tokens.size() - limit + static_cast<size_t>(round);
    const auto before = std::min(kept[which], ids.size());
    if (before < 2) return false;
    kept[which] = before > excess ? before - excess : 1;
    longest->content = shortened(ids, kept[which], spec.keep, tokenizer);
    if (trimmed(longest->content).empty()) return false;
    sample = make_sample(spec, record, tokenizer, chat);
  }
  return sample.tokens.size() <= limit;
}

// Consecutive pieces of a text, each at most sample_tokens long. Each begins with the last token of the one
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
  std::vector<Record> records;  // of each sample, where somebody will ask for them
  int64_t skipped = 0, cut = 0, pieces = 0, changed = 0, dropped_thoughts = 0;
  std::string bad;  // what the template refuses, of a source that skips bad records
};

// The sample as it is, or as data.length says.
void fit(const DataSpec& spec, const Record& record, Sample sample, const Tokenizer& tokenizer,
         const ChatTemplate& chat, Made& made) {
  const auto limit = static_cast<size_t>(spec.sample_tokens);
  if (sample.tokens.size() <= limit) {
    made.samples.push_back(std::move(sample));
  } else if (spec.length == "error") {
    throw RecipeError(
        fmt::format("{}: {} tokens, but data.sample_tokens is {}; raise it, or set data.length to {}",
                    record.place, sample.tokens.size(), spec.sample_tokens,
                    record.messages.empty() ? "skip, cut or split" : "skip or cut"));
  } else if (spec.length == "skip") {
    ++made.skipped;
  } else if (record.messages.empty()) {
    auto pieces = pieces_of(sample, limit);
    if (spec.length == "cut") {
      pieces.resize(1);
      pieces[0].id = record.place;
      ++made.cut;
    } else {
      made.pieces += static_cast<int64_t>(pieces.size());
    }
    for (auto& piece : pieces) made.samples.push_back(std::move(piece));
  } else if (spec.length == "split") {
    throw RecipeError(
        fmt::format("{}: {} tokens, but data.sample_tokens is {}; data.length split is for plain text, a "
                    "conversation can be skipped or cut",
                    record.place, sample.tokens.size(), spec.sample_tokens));
  } else if (cut_to_fit(spec, record, tokenizer, chat, sample)) {
    made.samples.push_back(std::move(sample));
    ++made.cut;
  } else {
    ++made.skipped;
  }
}

// keep_records: somebody will ask what each sample was made of.
Made made_of(const DataSpec& spec, const Record& record, const Tokenizer& tokenizer, const ChatTemplate& chat,
             bool keep_records) {
  Made made;
  Turns turns;
  std::vector<Sample> samples;
  try {
    turns = turns_of(spec, chosen_to_learn(spec.train_on, record), chat);
    for (const auto& part : turns.samples) samples.push_back(make_sample(spec, part, tokenizer, chat));
  } catch (const RecipeError& error) {
    if (spec.sources.at(static_cast<size_t>(record.source)).on_bad_record != "skip") throw;
    made.bad = error.what();
    return made;
  }
  made.changed = turns.changed;
  made.dropped_thoughts = turns.dropped_thoughts;
  for (size_t i = 0; i < samples.size(); ++i) {
    fit(spec, turns.samples[i], std::move(samples[i]), tokenizer, chat, made);
    if (keep_records) made.records.resize(made.samples.size(), turns.samples[i]);
  }
  return made;
}

void count(const Made& made, int64_t copies, DatasetCounts& counts) {
  counts.skipped_long += made.skipped;
  counts.cut += made.cut;
  counts.split_pieces += made.pieces;
  counts.changed_answers += made.changed;
  counts.dropped_thoughts += made.dropped_thoughts;
  counts.bad += !made.bad.empty();
  for (const auto& sample : made.samples) {
    const auto tokens = static_cast<int64_t>(sample.tokens.size());
    counts.tokens += tokens * copies;
    counts.longest = std::max(counts.longest, tokens);
    counts.supervised +=
        std::count_if(sample.weights.begin(), sample.weights.end(), [](float w) { return w > 0; }) * copies;
  }
}

// What the template will be asked for, at once.
void prepare(const ChatTemplate& chat, std::span<const Record* const> batch) {
  if (!chat.prepare) return;
  std::vector<const std::vector<Message>*> conversations;
  for (const auto* record : batch) conversations.push_back(&record->messages);
  chat.prepare(conversations);
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
      weigh(spec, record.messages, tokenizer, chat, render_tokens(chat, tokenizer, record.messages, false),
            sample);
      if (spec.train_on.others()) learn_others(spec.train_on, record, tokenizer, chat, sample);
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
  const auto note_bad = [&](const Made& made) {
    if (!made.bad.empty() && dataset.bad.size() < BadRecords::kShown) dataset.bad.push_back(made.bad);
  };
  const auto take_training = [&](const Made& made, int64_t copies) {
    count(made, copies, counts);
    note_bad(made);
    for (const auto& sample : made.samples)
      for (int64_t copy = 0; copy < copies; ++copy, ++train) sink.add(sample);
  };
  const auto take_held_out = [&](int64_t row, const Made& made) {
    count(made, 1, counts);
    note_bad(made);
    for (size_t i = 0; i < made.samples.size(); ++i) {
      held_out.add(made.samples[i]);
      dataset.held_out_records.push_back(made.records[i]);
      dataset.held_out_rows.push_back(row);
    }
  };
  source.pass([&](int64_t row) { return planned(row).copies > 0; },
              [&](int64_t row, Record record) -> RecordSource::Later {
                const auto [side, copies] = planned(row);
                auto made = std::make_shared<const Made>(
                    made_of(spec, record, tokenizer, chat, side == Side::held_out));
                if (side == Side::train)
                  return [&take_training, made, times = copies] { take_training(*made, times); };
                return [&take_held_out, made, row] { take_held_out(row, *made); };
              },
              nullptr, [&](std::span<const Record* const> batch) { prepare(chat, batch); });
  if (train == 0)
    throw RecipeError(fmt::format(
        "data: no training sample is left of {} records ({} too long, {} bad{}); check sources, length and "
        "held_out",
        counts.records, counts.skipped_long, counts.bad,
        dataset.bad.empty() ? "" : "; the first: " + dataset.bad.front()));
  for (const auto& canary : make_canaries(spec.canaries).planted) {  // behind all other training samples
    Made made;
    made.samples.push_back(canary_sample(spec, canary, tokenizer, chat));
    take_training(made, spec.canaries.times);
  }
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
