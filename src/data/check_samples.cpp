#include "data/check_samples.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "base/stop.h"
#include "base/terminal.h"
#include "data/canaries.h"

namespace retort {
namespace {

std::set<int32_t> end_tokens(const Tokenizer& tokenizer, const ChatTemplate& chat) {
  std::set<int32_t> ends;
  if (tokenizer.eos) ends.insert(*tokenizer.eos);
  for (const auto& stop : chat.stops)
    if (const auto id = tokenizer.find(stop)) ends.insert(*id);
  return ends;
}

// A plain text: everything is learned and no control token stands inside. It may be a piece, which ends
// anywhere.
bool is_text(const Sample& sample, const Tokenizer& tokenizer) {
  for (size_t i = 1; i < sample.tokens.size(); ++i)
    if (sample.weights[i] == 0 || (i + 1 < sample.tokens.size() && tokenizer.is_special(sample.tokens[i])))
      return false;
  return true;
}

enum class Flaw { none, zero_mask, double_bos, untrained_eos, cut_answer };
constexpr std::string_view kFlaws[] = {
    "",
    "zero mask: no token of them is learned; data.loss and the template leave nothing",
    "double BOS: they begin with two BOS tokens; the data already contains one",
    "untrained EOS: the end token of the last answer is not learned; the model would never stop",
    "cut answer: the last answer has no end token; raise data.sample_tokens or leave them out",
};

Flaw flaw_of(const Sample& sample, const Tokenizer& tokenizer, const std::set<int32_t>& ends) {
  const auto& tokens = sample.tokens;
  if (tokenizer.bos && tokens.size() >= 2 && tokens[0] == *tokenizer.bos && tokens[1] == *tokenizer.bos)
    return Flaw::double_bos;
  size_t last = 0;  // supervised; 0 is never
  for (size_t i = 1; i < tokens.size(); ++i)
    if (sample.weights[i] > 0) last = i;
  if (last == 0) return Flaw::zero_mask;
  if (ends.empty() || ends.count(tokens[last]) || is_text(sample, tokenizer)) return Flaw::none;
  if (last + 1 < tokens.size() && ends.count(tokens[last + 1])) return Flaw::untrained_eos;
  // With every token supervised the template's line break may follow the end token.
  for (size_t back = 1; back <= 2 && back <= last; ++back)
    if (ends.count(tokens[last - back]) && sample.weights[last - back] > 0) return Flaw::none;
  return Flaw::cut_answer;
}

std::string percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

}  // namespace

std::string rendered_samples(const Samples& samples, const Tokenizer& tokenizer, size_t count, bool colour,
                             size_t longest) {
  std::string out;
  const std::string_view begin = colour ? "\x1b[32m" : "\u27e6", end = colour ? "\x1b[0m" : "\u27e7";
  auto size = samples.size();
  while (size > 0 && is_canary(samples[size - 1].id)) --size;  // secrets, which come last
  for (size_t s = 0; s < std::min(count, size); ++s) {
    // Spread over the data: the first, the middle one, ...
    const auto& sample = samples[s * size / std::min(count, size)];
    const auto supervised =
        std::count_if(sample.weights.begin(), sample.weights.end(), [](float w) { return w > 0; });
    out += fmt::format("--- {}: {} tokens, {} of them learned\n", printable(sample.id), sample.tokens.size(),
                       supervised);
    std::string text;
    for (size_t i = 0; i < sample.tokens.size() && text.size() < longest;) {
      size_t stop = i;
      while (stop < sample.tokens.size() && (sample.weights[stop] > 0) == (sample.weights[i] > 0)) ++stop;
      auto part = harmless(tokenizer.decode(std::span(sample.tokens).subspan(i, stop - i)));
      if (text.size() + part.size() > longest) {
        part.resize(longest - text.size());
        while (!part.empty() && (static_cast<unsigned char>(part.back()) & 0xC0) == 0x80) part.pop_back();
        if (!part.empty() && static_cast<unsigned char>(part.back()) >= 0xC0) part.pop_back();
        part += " ...";
      }
      if (sample.weights[i] > 0) text.append(begin).append(part).append(end);
      else text += part;
      i = stop;
    }
    out += text + (text.ends_with('\n') ? "" : "\n");
  }
  return out;
}

SampleStatistics sample_statistics(const Samples& samples, int64_t step_samples, int64_t budget_rows,
                                   int64_t seed) {
  SampleStatistics found;
  found.samples = static_cast<int64_t>(samples.size());
  if (samples.empty()) return found;
  std::vector<int64_t> lengths;
  for (const auto& sample : samples) {
    lengths.push_back(static_cast<int64_t>(sample.tokens.size()));
    found.tokens += lengths.back();
    found.supervised +=
        std::count_if(sample.weights.begin(), sample.weights.end(), [](float w) { return w > 0; });
  }
  std::sort(lengths.begin(), lengths.end());
  found.shortest = lengths.front();
  found.longest = lengths.back();
  found.median = lengths[(lengths.size() - 1) / 2];
  found.p95 = lengths[(lengths.size() - 1) * 95 / 100];
  found.supervised_share = static_cast<double>(found.supervised) / static_cast<double>(found.tokens);
  size_t at = 0;
  for (int64_t bound = 8; at < lengths.size(); bound *= 2) {
    const auto from = at;
    while (at < lengths.size() && lengths[at] <= bound) ++at;
    if (at > from || !found.histogram.empty())
      found.histogram.emplace_back(bound, static_cast<int64_t>(at - from));
  }
  // A few steps of shuffled samples tell what sharing saves.
  const auto order = shuffled(found.samples, Draws(static_cast<uint64_t>(seed), "statistics"));
  const auto step = std::min(std::max<int64_t>(1, step_samples), found.samples);
  Saving saving;
  for (int64_t begin = 0; begin + step <= found.samples && begin < 16 * step; begin += step) {
    leave_if_stopped("measuring shared prefixes");
    std::vector<Sample> some;
    for (int64_t i = begin; i < begin + step; ++i)
      some.push_back(samples[static_cast<size_t>(order[static_cast<size_t>(i)])]);
    Saving one;
    build_forests(some, budget_rows, 4, &one);
    saving.plain_rows += one.plain_rows;
    saving.forest_rows += one.forest_rows;
  }
  if (saving.plain_rows > 0)
    found.shared_saving =
        1 - static_cast<double>(saving.forest_rows) / static_cast<double>(saving.plain_rows);
  return found;
}

std::vector<std::string> sample_problems(const Samples& samples, const Tokenizer& tokenizer,
                                         const ChatTemplate& chat) {
  const auto ends = end_tokens(tokenizer, chat);
  int64_t counts[5] = {};
  std::string places[5];
  for (const auto& sample : samples) {
    const auto flaw = static_cast<size_t>(flaw_of(sample, tokenizer, ends));
    if (flaw == 0) continue;
    if (++counts[flaw] <= 3) places[flaw] += (places[flaw].empty() ? "" : ", ") + printable(sample.id);
  }
  std::vector<std::string> problems;
  for (size_t flaw = 1; flaw < 5; ++flaw)
    if (counts[flaw] > 0)
      problems.push_back(fmt::format("{} of {} samples: {} ({}{})", counts[flaw], samples.size(),
                                     kFlaws[flaw], places[flaw], counts[flaw] > 3 ? ", ..." : ""));
  return problems;
}

void refuse_bad_samples(const Dataset& dataset, const Tokenizer& tokenizer, const ChatTemplate& chat) {
  std::string all;
  for (const auto* side : {&dataset.train, &dataset.held_out})
    for (const auto& problem : sample_problems(*side, tokenizer, chat))
      all += fmt::format("{}data: {}: {}", all.empty() ? "" : "\n",
                         side == &dataset.train ? "train" : "held_out", problem);
  if (!all.empty()) throw RecipeError(all);
}

std::string describe_sources(const DataSpec& spec, const RecordPlan& plan, double epochs) {
  std::string out;
  for (size_t s = 0; s < plan.sources.size(); ++s) {
    const auto& use = plan.sources[s];
    out += fmt::format("source {}: {} records of {}: {} to train on", s, use.records,
                       printable(spec.sources[s].path), use.train);
    if (use.train > 0)
      out += fmt::format(", used {:.4g} times in an epoch, {:.4g} in all",
                         static_cast<double>(use.samples) / static_cast<double>(use.train),
                         epochs * static_cast<double>(use.samples) / static_cast<double>(use.train));
    out += fmt::format("; {} held out\n", use.held_out);
  }
  std::string by;
  for (const auto& source : spec.sources)
    if (!source.group.empty() && by.find(source.group) == by.npos)
      by += (by.empty() ? "" : ", ") + source.group;
  out += fmt::format("groups: {} ({}), {} of them held out\n", plan.groups,
                     by.empty() ? "data.sources.group names none: each record is one, equal records share one"
                                : "by " + printable(by),
                     plan.held_out_groups);
  return out + fmt::format("epochs: {:.4g} (passes over the training samples)\n", epochs);
}

std::string describe_samples(const DataSpec& spec, const Dataset& dataset, const SampleStatistics& found,
                             const Overlap& overlap) {
  const auto& counts = dataset.counts;
  const auto cut = fmt::format("cut to data.sample_tokens (data.keep: {})", spec.keep);
  const bool own = spec.changed_answers == "own_sample";
  std::string out = fmt::format("samples: {} to train on, {} held out, of {} records\n", dataset.train.size(),
                                dataset.held_out.size(), counts.records);
  const std::pair<int64_t, const char*> notes[] = {
      {counts.bad, "bad records left out (on_bad_record: skip)"},
      {counts.changed_answers,
       own ? "answers in samples of their own: the template writes them otherwise once later turns follow"
           : "answers left out: the template writes them otherwise once later turns follow "
             "(data.changed_answers)"},
      {counts.dropped_thoughts, "answers learned without their thought: the template drops it"},
      {counts.cut, cut.c_str()},
      {counts.skipped_long, "left out as too long"},
      {counts.split_pieces, "pieces of long texts"},
      {counts.duplicates, "equal to another sample"},
      {counts.repeats, "repeats by weight"},
      {counts.left_out, "left out by weight"}};
  for (const auto& [count, what] : notes)
    if (count > 0) out += fmt::format("  {} {}\n", count, what);
  for (const auto& problem : dataset.bad) out += "  bad: " + harmless(problem) + "\n";
  out += fmt::format(
      "tokens: {} to train on, {} of them learned ({}); a sample has {} to {}, half of them have at most {}, "
      "95% at most {}\n",
      found.tokens, found.supervised, percent(found.supervised_share), found.shortest, found.longest,
      found.median, found.p95);
  int64_t most = 1;
  for (const auto& [bound, count] : found.histogram) most = std::max(most, count);
  for (const auto& [bound, count] : found.histogram)
    out += fmt::format("  up to {:>6} tokens {:>8} {}\n", bound, count,
                       std::string(static_cast<size_t>((count * 40 + most - 1) / most), '#'));
  out += fmt::format("what samples begin with alike is computed once, which saves {} of the tokens\n",
                     percent(found.shared_saving));
  if (overlap.held_out > 0) {
    out += fmt::format(
        "overlap: {} of {} held-out samples occur in the training data word for word, {} share a run of 13 "
        "words; {} have a prompt that the training data has too{}\n",
        overlap.exact, overlap.held_out, overlap.ngram, overlap.prompts,
        overlap.prompts > 0 ? " (data.sources.group: prompt keeps equal prompts on one side)" : "");
    for (const auto& place : overlap.places) out += "  " + harmless(place) + "\n";
  }
  return out;
}

}  // namespace retort
