#include "data/canaries.h"

#include <set>

#include "base/error.h"
#include "base/random.h"

namespace retort {
namespace {

constexpr std::string_view kPlanted = "data.canaries:", kTwin = "data.canaries.twins:";
constexpr std::string_view kRandom = "{random}";

std::string with_digits(std::string text, const std::string& digits) {
  for (auto at = text.find(kRandom); at != text.npos; at = text.find(kRandom, at + digits.size()))
    text.replace(at, kRandom.size(), digits);
  return text;
}

Record canary(const CanarySpec& spec, const std::string& digits, std::string place) {
  Record record;
  auto text = with_digits(spec.text, digits);
  if (spec.prompt.empty()) record.text = std::move(text);
  else record.messages = {{"user", spec.prompt}, {"assistant", std::move(text)}};
  record.place = std::move(place);
  return record;
}

}  // namespace

Canaries make_canaries(const CanarySpec& spec) {
  Canaries made;
  if (spec.count == 0) return made;
  uint64_t numbers = 1;
  for (int64_t digit = 0; digit < spec.digits; ++digit) numbers *= 10;
  // With more of them the search for one that is free would be long, and the recipe refuses it.
  if (static_cast<uint64_t>(spec.count + spec.twins) > numbers / 2)
    throw RecipeError(
        fmt::format("data.canaries.digits: {} digits give {} numbers, too few for {} canaries and {} twins; "
                    "raise it",
                    spec.digits, numbers, spec.count, spec.twins));
  const Draws draws(static_cast<uint64_t>(spec.seed), "canaries");
  std::set<uint64_t> taken;
  uint64_t next = 0;
  const auto digits = [&] {
    uint64_t number = draws.below(next++, numbers);
    while (!taken.insert(number).second) number = draws.below(next++, numbers);
    return fmt::format("{:0{}}", number, spec.digits);
  };
  for (int64_t i = 1; i <= spec.count; ++i)
    made.planted.push_back(canary(spec, digits(), fmt::format("{}{}", kPlanted, i)));
  for (int64_t i = 1; i <= spec.twins; ++i)
    made.twins.push_back(canary(spec, digits(), fmt::format("{}{}", kTwin, i)));
  return made;
}

bool is_canary(std::string_view id) { return id.starts_with(kPlanted); }

Sample canary_sample(const DataSpec& spec, const Record& canary, const Tokenizer& tokenizer,
                     const ChatTemplate& chat) {
  auto sample = make_sample(spec, canary, tokenizer, chat);
  if (static_cast<int64_t>(sample.tokens.size()) > spec.sample_tokens)
    throw RecipeError(fmt::format(
        "data.canaries: a canary has {} tokens, but data.sample_tokens is {}; shorten data.canaries.text, or "
        "raise data.sample_tokens",
        sample.tokens.size(), spec.sample_tokens));
  return sample;
}

std::string describe(const CanarySpec& spec) {
  if (spec.count == 0) return "";
  return fmt::format("{} {} planted, each learned {} in an epoch (data.canaries)",
                     spec.count == 1 ? std::string("1 canary") : fmt::format("{} canaries", spec.count),
                     spec.count == 1 ? "is" : "are",
                     spec.times == 1 ? std::string("once") : fmt::format("{} times", spec.times));
}

}  // namespace retort
