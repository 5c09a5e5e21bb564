#include "generate/growing_answer.h"

#include <algorithm>

#include "generate/sample.h"

namespace retort {

std::string_view finish_name(Finish finish) {
  switch (finish) {
    case Finish::stop_token: return "stop token";
    case Finish::stop_text: return "stop text";
    case Finish::length: return "length";
    case Finish::context: return "context";
    case Finish::interrupted: return "interrupted";
  }
  return "";
}

StopRules stop_rules(const ModelConfig& config, const Tokenizer& tokenizer, const ChatTemplate* chat,
                     const SampleSpec& spec) {
  StopRules rules{config.eos, spec.stop};
  if (tokenizer.eos) rules.tokens.push_back(*tokenizer.eos);
  if (chat) {
    for (const auto& stop : chat->stops) {
      const auto token = tokenizer.find(stop);
      if (token && tokenizer.is_special(*token)) rules.tokens.push_back(*token);
      else rules.texts.push_back(stop);
    }
  }
  std::sort(rules.tokens.begin(), rules.tokens.end());
  rules.tokens.erase(std::unique(rules.tokens.begin(), rules.tokens.end()), rules.tokens.end());
  return rules;
}

int64_t answer_room(const ModelConfig& config, size_t prompt_tokens, const SampleSpec& sample) {
  if (config.context <= 0) return sample.max_tokens;
  return std::min(sample.max_tokens, config.context - static_cast<int64_t>(prompt_tokens));
}

GrowingAnswer::GrowingAnswer(const Tokenizer& tokenizer, const AnswerRules& rules, int64_t most_tokens,
                             int64_t number, const std::vector<int32_t>& prompt)
    : tokenizer_(tokenizer),
      rules_(rules),
      most_tokens_(most_tokens),
      number_(number),
      stream_(rules.stops.texts) {
  if (rules.sample.repetition_penalty != 1) seen_.insert(prompt.begin(), prompt.end());
}

std::optional<int32_t> GrowingAnswer::take_next(std::span<float> logits, const Heard& heard) {
  logits = logits.first(std::min(logits.size(), static_cast<size_t>(tokenizer_.size())));
  for (const auto hole : tokenizer_.holes())
    if (static_cast<size_t>(hole) < logits.size()) logits[hole] = kNever;
  const auto token = next_token(logits, rules_.sample, seen_, number_, step_++);
  if (complete_with(token, heard)) return std::nullopt;
  return token;
}

bool GrowingAnswer::complete_with(int32_t token, const Heard& heard) {
  const auto& ends = rules_.stops.tokens;
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
    answer_.finish = Finish::stop_token;
    return true;
  }
  answer_.tokens.push_back(token);
  if (rules_.sample.repetition_penalty != 1) seen_.insert(token);
  bool complete = stream_.push(tokenizer_.token_bytes(token));
  if (complete) answer_.finish = Finish::stop_text;
  if (!complete && static_cast<int64_t>(answer_.tokens.size()) == most_tokens_) {
    complete = true;
    answer_.finish = most_tokens_ < rules_.sample.max_tokens ? Finish::context : Finish::length;
  }
  if (heard && !complete) {
    if (const auto fresh = stream_.take(); !fresh.empty() && !heard(fresh)) {
      answer_.finish = Finish::interrupted;
      return true;
    }
  }
  return complete;
}

Answer GrowingAnswer::close(const Heard& heard) {
  if (heard && answer_.finish != Finish::interrupted)
    if (const auto rest = stream_.take(true); !rest.empty()) heard(rest);
  answer_.text = stream_.text();
  return std::move(answer_);
}

}  // namespace retort
