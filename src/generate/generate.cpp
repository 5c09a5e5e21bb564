#include "generate/generate.h"

#include <mutex>
#include <numeric>
#include <unordered_set>

#include "base/error.h"
#include "base/stop.h"
#include "generate/growing_forest.h"
#include "generate/sample.h"
#include "generate/text_stream.h"
#include "ops/workers.h"

namespace retort {
namespace {

struct Batch {
  const Model& model;
  const Tokenizer& tokenizer;
  const SampleSpec& sample;
  const StopRules& stops;
  const OnText& on_text;
  at::ScalarType compute;
  int64_t prefill_rows;
};

// One answer on its way.
struct Growing {
  int64_t index;                    // of the prompt, and of the answer
  int64_t number;                   // for the keyed draws
  int64_t most_tokens;              // max_tokens, or what the context leaves
  TextStream stream;
  std::unordered_set<int32_t> seen;  // only with a repetition penalty
  Answer answer;
};

int64_t room(const ModelConfig& config, size_t prompt_tokens, const SampleSpec& sample) {
  if (config.context <= 0) return sample.max_tokens;
  return std::min(sample.max_tokens, config.context - static_cast<int64_t>(prompt_tokens));
}

// Takes the next token into the answer; true when the answer is complete.
bool take(Growing& growing, int32_t token, const Batch& batch) {
  auto& answer = growing.answer;
  const auto& ends = batch.stops.tokens;
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
    answer.finish = Finish::stop_token;
    return true;
  }
  answer.tokens.push_back(token);
  if (batch.sample.repetition_penalty != 1) growing.seen.insert(token);
  bool finished = growing.stream.push(batch.tokenizer.token_bytes(token));
  if (finished) answer.finish = Finish::stop_text;
  if (!finished && static_cast<int64_t>(answer.tokens.size()) == growing.most_tokens) {
    finished = true;
    answer.finish = growing.most_tokens < batch.sample.max_tokens ? Finish::context : Finish::length;
  }
  if (batch.on_text && !finished) {
    if (const auto fresh = growing.stream.take(); !fresh.empty() && !batch.on_text(growing.index, fresh)) {
      answer.finish = Finish::interrupted;
      return true;
    }
  }
  return finished;
}

void close(Growing& growing, const Batch& batch) {
  if (batch.on_text && growing.answer.finish != Finish::interrupted)
    if (const auto rest = growing.stream.take(true); !rest.empty()) batch.on_text(growing.index, rest);
  growing.answer.text = growing.stream.text();
}

void grow_batch(const Batch& batch, const std::vector<std::vector<int32_t>>& prompts, std::vector<Growing>& answers) {
  int64_t most = 0;
  for (const auto& growing : answers) most = std::max(most, growing.most_tokens);
  GrowingForest forest(batch.model, batch.compute);
  Pass pass;
  pass.compute = batch.compute;

  std::vector<int32_t> live(answers.size());
  std::iota(live.begin(), live.end(), 0);
  auto hidden = forest.enter(prompts, most - 1, batch.prefill_rows);  // the last token of an answer is never a row
  for (int64_t step = 0; !live.empty(); ++step) {
    leave_if_stopped("generating");
    std::vector<int32_t> rows(live.size());
    std::iota(rows.begin(), rows.end(), 0);
    auto scores = logits(hidden, rows, batch.model.head, pass).contiguous();  // [live,V]
    const auto vocabulary = static_cast<size_t>(scores.size(1));
    std::vector<int32_t> going, tokens;
    for (size_t i = 0; i < live.size(); ++i) {
      auto& growing = answers[live[i]];
      const std::span<float> row(scores.data_ptr<float>() + i * vocabulary, vocabulary);
      const auto token = next_token(row, batch.sample, growing.seen, growing.number, step);
      if (take(growing, token, batch)) {
        close(growing, batch);
      } else {
        going.push_back(live[i]);
        tokens.push_back(token);
      }
    }
    live = std::move(going);
    if (!live.empty()) hidden = forest.step(live, tokens);
  }
}

}  // namespace

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

StopRules stop_rules(const ModelConfig& config, const Tokenizer& tokenizer, const ChatTemplate* chat, const SampleSpec& spec) {
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

std::vector<Answer> generate(const Model& model, const Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& prompts, const SampleSpec& sample,
                             const StopRules& stops, at::ScalarType compute, const GenerateSpec& how, const OnText& on_text, int64_t first_answer) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) throw RecipeError(fmt::format("prompt {}: has no tokens; write some text, or use a template", i + 1));
    if (room(model.config, prompts[i].size(), sample) < 1)
      throw RecipeError(fmt::format("prompt {}: has {} tokens, which leaves no room in the model's context of {}; shorten it", i + 1, prompts[i].size(),
                                    model.config.context));
  }
  // Neighbours in lexicographic order share the most, so a batch is a run of that order.
  std::vector<int64_t> order(prompts.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return prompts[a] < prompts[b]; });
  const auto count = static_cast<int64_t>(prompts.size());
  const auto threads = usable_threads(how.threads);
  auto batches = std::max((count + how.batch - 1) / how.batch, std::min(threads, count));
  if (batches % threads != 0) batches = std::min(count, (batches / threads + 1) * threads);  // no thread idles through a last round

  std::vector<Answer> answers(prompts.size());
  std::mutex speaking;
  const OnText one_at_a_time = [&](int64_t index, std::string_view fresh) {
    const std::lock_guard lock(speaking);
    return on_text(index, fresh);
  };
  const Batch shared{model, tokenizer, sample, stops, on_text ? one_at_a_time : on_text, compute, how.prefill_rows};
  run_workers(threads, batches, [&](int64_t batch) {
    std::vector<Growing> growing;
    std::vector<std::vector<int32_t>> tokens;
    for (auto i = count * batch / batches; i < count * (batch + 1) / batches; ++i) {
      const auto index = order[i];
      tokens.push_back(prompts[index]);
      growing.push_back({index, first_answer + index, room(model.config, prompts[index].size(), sample), TextStream(stops.texts), {}, {}});
      if (sample.repetition_penalty != 1) growing.back().seen.insert(prompts[index].begin(), prompts[index].end());
    }
    grow_batch(shared, tokens, growing);
    for (auto& done : growing) answers[done.index] = std::move(done.answer);
  });
  return answers;
}

}  // namespace retort
