#include "data/dataset.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/stop.h"

namespace retort {
namespace {

uint64_t hash_number(std::string_view hex) { return std::stoull(std::string(hex.substr(0, 16)), nullptr, 16); }

std::string split_key(const Record& record) { return record.group.empty() ? record_hash(record) : sha256("group:" + record.group); }

void weigh(const DataSpec& spec, const RenderedTokens& rendered, Sample& sample) {
  sample.tokens = rendered.tokens;
  sample.weights.assign(rendered.tokens.size(), 0.0f);
  const auto last = rendered.answers.empty() ? -1 : *std::max_element(rendered.answers.begin(), rendered.answers.end());
  for (size_t i = 0; i < sample.weights.size(); ++i) {
    const auto answer = rendered.answers[i];
    const bool supervised = spec.loss == "all" || (spec.loss == "last_answer" ? answer >= 0 && answer == last : answer >= 0);
    sample.weights[i] = supervised ? 1.0f : 0.0f;
  }
}

// Cuts the longest message before the answer until the sample fits; false when nothing is left to cut.
bool cut_to_fit(const DataSpec& spec, Record record, const Tokenizer& tokenizer, const ChatTemplate& chat, Sample& sample) {
  const auto limit = static_cast<size_t>(spec.row_tokens);
  for (int round = 0; round < 64 && sample.tokens.size() > limit; ++round) {
    Message* longest = nullptr;
    for (auto& message : record.messages)
      if (message.role != "assistant" && (!longest || message.content.size() > longest->content.size())) longest = &message;
    if (!longest || longest->content.empty()) return false;
    const auto ids = tokenizer.encode(longest->content);
    const size_t excess = sample.tokens.size() - limit + static_cast<size_t>(round);
    size_t kept = ids.size() > excess ? ids.size() - excess : 0;
    std::string content = kept == 0 ? std::string() : tokenizer.decode(std::span(ids).first(kept));
    // A token may end inside a character.
    while (!content.empty() && (static_cast<unsigned char>(content.back()) & 0xC0) == 0x80) content.pop_back();
    if (!content.empty() && static_cast<unsigned char>(content.back()) >= 0xC0) content.pop_back();
    if (content.size() >= longest->content.size()) content.resize(longest->content.size() / 2);
    longest->content = content;
    sample = make_sample(spec, record, tokenizer, chat);
  }
  return sample.tokens.size() <= limit;
}

// Consecutive pieces of a text, each at most row_tokens long. Each begins with the last token of the one before, so that
// every token is predicted once.
std::vector<Sample> pieces_of(const Sample& whole, size_t limit) {
  std::vector<Sample> pieces;
  for (size_t begin = 0; begin + 1 < whole.tokens.size(); begin += limit - 1) {
    const auto end = std::min(begin + limit, whole.tokens.size());
    Sample piece;
    piece.id = fmt::format("{}#{}", whole.id, pieces.size() + 1);
    piece.tokens.assign(whole.tokens.begin() + static_cast<std::ptrdiff_t>(begin), whole.tokens.begin() + static_cast<std::ptrdiff_t>(end));
    piece.weights.assign(whole.weights.begin() + static_cast<std::ptrdiff_t>(begin), whole.weights.begin() + static_cast<std::ptrdiff_t>(end));
    piece.weights[0] = 0;
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

// How often a training sample is used in an epoch: the whole part of the weight, and once more with its fraction.
int64_t uses(double weight, uint64_t key, const Draws& draws) {
  const double whole = std::floor(weight);
  return static_cast<int64_t>(whole) + (draws.uniform(key) < weight - whole ? 1 : 0);
}

}  // namespace

std::vector<bool> held_out_records(const DataSpec& spec, const std::vector<Record>& records) {
  const Draws draws(static_cast<uint64_t>(spec.seed), "held_out");
  std::vector<bool> held(records.size(), false);
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < records.size(); ++i) {
    const auto& use = spec.sources.at(static_cast<size_t>(records[i].source)).use;
    if (use == "held_out") held[i] = true;
    if (use != "both") continue;
    const auto key = hash_number(split_key(records[i]));
    if (spec.held_out.count == 0) held[i] = draws.uniform(key) < spec.held_out.fraction;
    else order.emplace_back(draws.bits(key), i);
  }
  if (spec.held_out.count > 0) {
    // Equal draws are equal samples or one group: they go together, so the count may be exceeded by the last group.
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < order.size(); ++i) {
      const bool with_previous = i > 0 && order[i].first == order[i - 1].first && held[order[i - 1].second];
      if (i < static_cast<size_t>(spec.held_out.count) || with_previous) held[order[i].second] = true;
    }
  }
  return held;
}

Sample make_sample(const DataSpec& spec, const Record& record, const Tokenizer& tokenizer, const ChatTemplate& chat) {
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
    } catch (const RecipeError& error) {
      throw RecipeError(record.place + ": " + error.what());
    }
  }
  if (!sample.weights.empty()) sample.weights[0] = 0;  // nothing predicts the first token
  return sample;
}

std::vector<int32_t> prompt_tokens(const Record& record, const Tokenizer& tokenizer, const ChatTemplate& chat) {
  if (record.messages.empty()) return tokenizer.add_bos && tokenizer.bos ? std::vector<int32_t>{*tokenizer.bos} : std::vector<int32_t>{};
  return render_tokens(chat, tokenizer, record.prompt(), true).tokens;
}

Dataset build_dataset(const DataSpec& spec, const std::vector<Record>& records, const Tokenizer& tokenizer, const ChatTemplate& chat) {
  Dataset dataset;
  std::vector<Sample> train, held_out;
  auto& counts = dataset.counts;
  counts.records = static_cast<int64_t>(records.size());
  const auto held = held_out_records(spec, records);
  const Draws weight_draws(static_cast<uint64_t>(spec.seed), "weight");
  const auto limit = static_cast<size_t>(spec.row_tokens);
  std::set<std::string> seen;
  for (size_t i = 0; i < records.size(); ++i) {
    if (i % 256 == 0) leave_if_stopped("tokenizing samples");
    const auto& record = records[i];
    const auto hash = record_hash(record);
    if (!seen.insert(hash).second) ++counts.duplicates;
    int64_t copies = 1;
    if (!held[i]) {
      copies = uses(spec.sources.at(static_cast<size_t>(record.source)).weight, hash_number(hash), weight_draws);
      if (copies == 0) {
        ++counts.left_out;
        continue;
      }
      counts.repeats += copies - 1;
    }
    auto sample = make_sample(spec, record, tokenizer, chat);
    std::vector<Sample> samples;
    if (sample.tokens.size() <= limit) {
      samples.push_back(std::move(sample));
    } else if (spec.length == "error") {
      throw RecipeError(fmt::format("{}: {} tokens, but data.row_tokens is {}; raise it, or set data.length to skip, cut{}", record.place,
                                    sample.tokens.size(), spec.row_tokens, record.messages.empty() ? " or split" : ""));
    } else if (spec.length == "skip") {
      ++counts.skipped_long;
      continue;
    } else if (record.messages.empty()) {
      samples = pieces_of(sample, limit);
      if (spec.length == "cut") {
        samples.resize(1);
        samples[0].id = record.place;
        ++counts.cut;
      } else {
        counts.split_pieces += static_cast<int64_t>(samples.size());
      }
    } else if (spec.length == "split") {
      throw RecipeError(fmt::format("{}: {} tokens, but data.row_tokens is {}; data.length split is for plain text, a conversation can be skipped or cut",
                                    record.place, sample.tokens.size(), spec.row_tokens));
    } else if (cut_to_fit(spec, record, tokenizer, chat, sample)) {
      ++counts.cut;
      samples.push_back(std::move(sample));
    } else {
      ++counts.skipped_long;
      continue;
    }
    for (auto& one : samples) {
      counts.tokens += static_cast<int64_t>(one.tokens.size()) * copies;
      counts.longest = std::max(counts.longest, static_cast<int64_t>(one.tokens.size()));
      counts.supervised += std::count_if(one.weights.begin(), one.weights.end(), [](float w) { return w > 0; }) * copies;
      if (held[i]) {
        dataset.held_out_records.push_back(record);
        dataset.held_out_indices.push_back(static_cast<int64_t>(i));
      }
      auto& side = held[i] ? held_out : train;
      for (int64_t copy = 1; copy < copies; ++copy) side.push_back(one);
      side.push_back(std::move(one));
    }
  }
  if (train.empty()) throw RecipeError(fmt::format("data: no training sample is left of {} records ({} too long); check sources, length and held_out",
                                                           counts.records, counts.skipped_long));
  dataset.train = std::move(train);
  dataset.held_out = std::move(held_out);
  return dataset;
}

Dataset build_dataset(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat) {
  return build_dataset(spec, read_records(spec), tokenizer, chat);
}

}  // namespace retort
