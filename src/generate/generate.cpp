#include "generate/generate.h"

#include <mutex>
#include <numeric>

#include "base/error.h"
#include "base/profile.h"
#include "base/stop.h"
#include "generate/growing_forest.h"
#include "ops/workers.h"

namespace retort {
namespace {

struct Batch {
  const Model& model;
  const OnText& on_text;
  at::ScalarType compute;
  int64_t prefill_rows;
  KvType kv;
};

struct Growing {
  int64_t index;       // of the prompt, and of the answer
  GrowingAnswer answer;
  GrowingAnswer::Heard heard;
};

void grow_batch(const Batch& batch, const std::vector<std::vector<int32_t>>& prompts, std::vector<Growing>& growing, int64_t most_tokens, std::vector<Answer>& answers) {
  GrowingForest forest(batch.model, batch.compute, batch.kv);
  Pass pass;
  pass.compute = batch.compute;

  std::vector<int32_t> live(growing.size());
  std::iota(live.begin(), live.end(), 0);
  auto hidden = forest.enter(prompts, most_tokens - 1, batch.prefill_rows);  // the last token of an answer is never a row
  while (!live.empty()) {
    leave_if_stopped("generating");
    std::vector<int32_t> rows(live.size());
    std::iota(rows.begin(), rows.end(), 0);
    auto scores = logits(hidden, rows, batch.model.head, pass).contiguous();  // [live,V]
    const auto vocabulary = static_cast<size_t>(scores.size(1));
    std::optional<Span> choosing(std::in_place, Work{"choice of tokens", "decoding"});
    std::vector<int32_t> going, tokens;
    for (size_t i = 0; i < live.size(); ++i) {
      auto& one = growing[live[i]];
      if (const auto token = one.answer.take_next({scores.data_ptr<float>() + i * vocabulary, vocabulary}, one.heard)) {
        going.push_back(live[i]);
        tokens.push_back(*token);
      } else {
        answers[one.index] = one.answer.close(one.heard);
      }
    }
    live = std::move(going);
    choosing.reset();
    if (!live.empty()) hidden = forest.step(live, tokens);
  }
}

}  // namespace

std::vector<Answer> generate(const Model& model, const Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& prompts, const SampleSpec& sample,
                             const StopRules& stops, at::ScalarType compute, const GenerateSpec& how, const OnText& on_text, int64_t first_answer) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) throw RecipeError(fmt::format("prompt {}: has no tokens; write some text, or use a template", i + 1));
    if (answer_room(model.config, prompts[i].size(), sample) < 1)
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
  const Batch shared{model, on_text, compute, how.prefill_rows, kv_type(how.kv)};
  run_workers(threads, batches, [&](int64_t batch) {
    std::vector<Growing> growing;
    std::vector<std::vector<int32_t>> tokens;
    int64_t most = 0;
    for (auto i = count * batch / batches; i < count * (batch + 1) / batches; ++i) {
      const auto index = order[i];
      const auto room = answer_room(model.config, prompts[index].size(), sample);
      most = std::max(most, room);
      tokens.push_back(prompts[index]);
      GrowingAnswer::Heard heard;
      if (on_text)
        heard = [&, index](std::string_view fresh) {
          const std::lock_guard lock(speaking);
          return on_text(index, fresh);
        };
      growing.push_back({index, GrowingAnswer(tokenizer, sample, stops, room, first_answer + index, prompts[index]), std::move(heard)});
    }
    grow_batch(shared, tokens, growing, most, answers);
  });
  return answers;
}

}  // namespace retort
