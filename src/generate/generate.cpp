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

struct Growing {
  int64_t index;  // of the prompt, and of the answer
  std::vector<int32_t> prompt;
  int64_t room;  // tokens of the answer at most
  GrowingAnswer answer;
  GrowingAnswer::Heard heard;
  bool ended = false;
};

size_t common_tokens(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(a.size(), b.size())),
                    b.begin())
          .first -
      a.begin());
}

// Answers to a run of prompts in lexicographic order, at most how.batch at a time. Where a quarter of them
// have ended, the next prompts take their places, beside the newest one, with which they share the most.
void grow(const Writer& writer, std::vector<Growing>& growing, std::vector<Answer>& answers) {
  GrowingForest forest(writer.model, writer.compute, kv_type(writer.how.kv));
  Pass pass;
  pass.compute = writer.compute;
  const auto abreast = static_cast<size_t>(writer.how.batch);

  size_t entered = 0;
  std::vector<int32_t> live;  // texts of the forest, which are numbered like `growing`
  Tensor hidden;              // of their last tokens
  for (;;) {
    leave_if_stopped("generating");
    const auto room = abreast - live.size();
    if (entered < growing.size() && (live.empty() || 4 * room >= abreast)) {
      std::vector<std::vector<int32_t>> prompts;
      int64_t most_tokens = 0;
      for (size_t i = entered; i < std::min(growing.size(), entered + room); ++i) {
        prompts.push_back(growing[i].prompt);
        most_tokens = std::max(most_tokens, growing[i].room);
        live.push_back(static_cast<int32_t>(i));
      }
      const auto newest = static_cast<int32_t>(entered) - 1;
      size_t shared = 0;
      if (newest >= 0) {  // every prompt keeps a token of its own: its hidden state is needed
        shared = std::min(common_tokens(growing[static_cast<size_t>(newest)].prompt, prompts.front()),
                          common_tokens(growing[static_cast<size_t>(newest)].prompt, prompts.back()));
        for (const auto& prompt : prompts) shared = std::min(shared, prompt.size() - 1);
      }
      auto states = forest.enter(prompts, most_tokens - 1, writer.how.prefill_rows, newest,
                                 static_cast<int64_t>(shared));  // the last token of an answer is never a row
      if (newest >= 0 && growing[static_cast<size_t>(newest)].ended) forest.leave(newest);
      entered += prompts.size();
      hidden = hidden.defined() ? at::cat({hidden, states}) : states;
    }
    if (live.empty()) return;
    std::vector<int32_t> rows(live.size());
    std::iota(rows.begin(), rows.end(), 0);
    auto scores = logits(hidden, rows, writer.model.head, pass).contiguous();  // [live,V]
    const auto vocabulary = static_cast<size_t>(scores.size(1));
    std::optional<Span> choosing(std::in_place, Work{"choice of tokens", "decoding"});
    std::vector<int32_t> going, tokens;
    for (size_t i = 0; i < live.size(); ++i) {
      auto& one = growing[static_cast<size_t>(live[i])];
      if (const auto token =
              one.answer.take_next({scores.data_ptr<float>() + i * vocabulary, vocabulary}, one.heard)) {
        going.push_back(live[i]);
        tokens.push_back(*token);
        continue;
      }
      answers[static_cast<size_t>(one.index)] = one.answer.close(one.heard);
      one.ended = true;
      if (static_cast<size_t>(live[i]) + 1 < entered)
        forest.leave(live[i]);  // the newest one's prompt may be wanted again
    }
    live = std::move(going);
    choosing.reset();
    hidden = live.empty() ? Tensor() : forest.step(live, tokens);
  }
}

}  // namespace

std::vector<Answer> generate(const Writer& writer, const std::vector<std::vector<int32_t>>& prompts,
                             const AnswerRules& rules, const OnText& on_text, int64_t first_answer) {
  const auto& config = writer.model.config;
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty())
      throw RecipeError(fmt::format("prompt {}: has no tokens; write some text, or use a template", i + 1));
    if (answer_room(config, prompts[i].size(), rules.sample) < 1)
      throw RecipeError(fmt::format(
          "prompt {}: has {} tokens, which leaves no room in the model's context of {}; shorten it", i + 1,
          prompts[i].size(), config.context));
  }
  // Neighbours in lexicographic order share the most, so a worker has a run of that order.
  std::vector<int64_t> order(prompts.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return prompts[a] < prompts[b]; });
  const auto count = static_cast<int64_t>(prompts.size()), threads = usable_threads(writer.how.threads),
             workers = std::min(writer.model.device().is_cpu() ? threads : int64_t{1}, count);

  std::vector<Answer> answers(prompts.size());
  std::mutex speaking;
  run_workers(threads, workers, [&](int64_t worker) {
    std::vector<Growing> growing;
    for (auto i = count * worker / workers; i < count * (worker + 1) / workers; ++i) {
      const auto index = order[i];
      const auto room = answer_room(config, prompts[index].size(), rules.sample);
      GrowingAnswer::Heard heard;
      if (on_text)
        heard = [&, index](std::string_view fresh) {
          const std::lock_guard lock(speaking);
          return on_text(index, fresh);
        };
      growing.push_back({index, prompts[index], room,
                         GrowingAnswer(writer.tokenizer, rules, room, first_answer + index, prompts[index]),
                         std::move(heard)});
    }
    grow(writer, growing, answers);
  });
  return answers;
}

}  // namespace retort
