#include "data/beyond_context.h"

#include <algorithm>

#include "base/error.h"

namespace retort {

namespace {

std::string advice(int64_t context) {
  return fmt::format("set data.sample_tokens: {} with data.length: cut or skip", context);
}

}  // namespace

std::vector<std::string> beyond_context(const Dataset& dataset, int64_t context) {
  std::vector<std::string> lines;
  if (context <= 0) return lines;
  for (const auto* side : {&dataset.train, &dataset.held_out}) {
    int64_t count = 0, longest = 0;
    size_t place = 0;
    for (size_t i = 0; i < side->size(); ++i) {
      const auto tokens = side->tokens(i);
      if (tokens <= context) continue;
      ++count;
      if (tokens > longest) longest = tokens, place = i;
    }
    if (count == 0) continue;
    lines.push_back(fmt::format(
        "{} of {} {} samples are longer than the model's context of {} tokens, the longest has {} ({}); the "
        "model was not made for places beyond it, and `retort generate` refuses them: {}",
        count, side->size(), side == &dataset.train ? "training" : "held-out", context, longest,
        printable((*side)[place].id), advice(context)));
  }
  return lines;
}

void refuse_beyond_context(const Dataset& dataset, int64_t context, const std::string& reason) {
  if (reason.empty()) return;
  for (const auto* side : {&dataset.train, &dataset.held_out})
    for (size_t i = 0; i < side->size(); ++i)
      if (side->tokens(i) > context)
        throw RecipeError(fmt::format("{}: {} tokens; past {} tokens {}, which is not computed here: {}",
                                      printable((*side)[i].id), side->tokens(i), context, reason,
                                      advice(context)));
}

void refuse_prompts_beyond_context(const Dataset& dataset, int64_t context) {
  if (context <= 0) return;
  int64_t count = 0;
  std::string first;
  for (size_t i = 0; i < dataset.held_out.size(); ++i) {
    if (dataset.held_out.tokens(i) <= context) continue;
    const auto sample = dataset.held_out[i];
    const auto prompt =
        std::find_if(sample.weights.begin(), sample.weights.end(), [](float weight) { return weight > 0; }) -
        sample.weights.begin();
    if (prompt < context) continue;
    if (count++ == 0) first = fmt::format("{}: {} tokens before the answer", printable(sample.id), prompt);
  }
  if (count > 0)
    throw RecipeError(fmt::format(
        "{}; {} held-out prompts leave no room for an answer in the model's context of {} tokens, which the "
        "completion task would refuse after the training: {}",
        first, count, context, advice(context)));
}

}  // namespace retort
