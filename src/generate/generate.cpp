#include "generate/generate.h"

#include <memory>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "base/profile.h"
#include "base/stop.h"
#include "generate/growing_forest.h"
#include "ops/device_copies.h"
#include "ops/workers.h"
#include "schedule/chains.h"

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
class Grower {
 public:
  Grower(const Writer& writer, std::vector<Growing> growing, std::vector<Answer>& answers)
      : writer_(writer),
        growing_(std::move(growing)),
        answers_(answers),
        forest_(writer.model, writer.compute, kv_type(writer.how.kv)) {
    pass_.compute = writer.compute;
  }

  // What is to be computed next; nothing when all answers are there. take() hears what came of it.
  std::optional<Feed> next() {
    for (;;) {
      leave_if_stopped("generating");
      if (room_for_prompts()) return enter();
      if (live_.empty()) return std::nullopt;
      if (auto tokens = chosen(); !live_.empty()) return forest_.feed_step(live_, tokens);
      hidden_ = Tensor();
    }
  }
  void take(const Tensor& hidden) {
    hidden_ = entering_ && hidden_.defined() ? at::cat({hidden_, hidden}) : hidden;
  }

  const GrowingForest& forest() const { return forest_; }
  const char* doing() const { return entering_ ? "prompts" : "decoding"; }

 private:
  bool room_for_prompts() const {
    const auto abreast = static_cast<size_t>(writer_.how.batch);
    return entered_ < growing_.size() && (live_.empty() || 4 * (abreast - live_.size()) >= abreast);
  }

  Feed enter() {
    const auto room = static_cast<size_t>(writer_.how.batch) - live_.size();
    std::vector<std::vector<int32_t>> prompts;
    int64_t most_tokens = 0;
    for (size_t i = entered_; i < std::min(growing_.size(), entered_ + room); ++i) {
      prompts.push_back(growing_[i].prompt);
      most_tokens = std::max(most_tokens, growing_[i].room);
      live_.push_back(static_cast<int32_t>(i));
    }
    const auto newest = static_cast<int32_t>(entered_) - 1;
    size_t shared = 0;
    if (newest >= 0) {  // every prompt keeps a token of its own: its hidden state is needed
      shared = std::min(common_tokens(growing_[static_cast<size_t>(newest)].prompt, prompts.front()),
                        common_tokens(growing_[static_cast<size_t>(newest)].prompt, prompts.back()));
      for (const auto& prompt : prompts) shared = std::min(shared, prompt.size() - 1);
    }
    auto feed = forest_.feed_prompts(prompts, most_tokens - 1, writer_.how.prefill_rows, newest,
                                     static_cast<int64_t>(shared));  // the last token is never a row
    if (newest >= 0 && growing_[static_cast<size_t>(newest)].ended) forest_.leave(newest);
    entered_ += prompts.size();
    entering_ = true;
    return feed;
  }

  // The next token of each text that goes on, which live_ then has.
  std::vector<int32_t> chosen() {
    entering_ = false;
    std::vector<int32_t> rows(live_.size());
    std::iota(rows.begin(), rows.end(), 0);
    auto scores = logits(hidden_, rows, writer_.model.head, pass_).contiguous();  // [live,V]
    const auto vocabulary = static_cast<size_t>(scores.size(1));
    const Span choosing({"choice of tokens", "decoding"});
    std::vector<int32_t> going, tokens;
    for (size_t i = 0; i < live_.size(); ++i) {
      auto& one = growing_[static_cast<size_t>(live_[i])];
      if (const auto token =
              one.answer.take_next({scores.data_ptr<float>() + i * vocabulary, vocabulary}, one.heard)) {
        going.push_back(live_[i]);
        tokens.push_back(*token);
        continue;
      }
      answers_[static_cast<size_t>(one.index)] = one.answer.close(one.heard);
      one.ended = true;
      if (static_cast<size_t>(live_[i]) + 1 < entered_)
        forest_.leave(live_[i]);  // the newest one's prompt may be wanted again
    }
    live_ = std::move(going);
    return tokens;
  }

  const Writer& writer_;
  std::vector<Growing> growing_;
  std::vector<Answer>& answers_;
  GrowingForest forest_;
  Pass pass_;
  size_t entered_ = 0;
  std::vector<int32_t> live_;  // texts of the forest, which are numbered like growing_
  Tensor hidden_;              // of their last tokens
  bool entering_ = false;
};

using Growers = std::vector<std::unique_ptr<Grower>>;

// Each by itself.
void grow_apart(Growers& growers, int64_t threads) {
  run_workers(threads, static_cast<int64_t>(growers.size()), [&](int64_t i) {
    auto& grower = *growers[static_cast<size_t>(i)];
    while (const auto feed = grower.next()) {
      const Span span({"between operations", grower.doing()});
      grower.take(grower.forest().computed(*feed));
    }
    growers[static_cast<size_t>(i)].reset();
  });
}

// In step, so that a token of all texts together costs one reading of the layers. The same numbers.
void grow_by_layers(const Model& model, Growers& growers, int64_t threads) {
  const auto how = abreast(threads, static_cast<int64_t>(growers.size()));
  while (!growers.empty()) {
    std::vector<std::optional<Feed>> feeds(growers.size());
    const auto each = [&](const std::function<void(size_t grower)>& work) {
      const auto count = static_cast<int64_t>(growers.size());
      run_workers(how.threads(count), count, [&](int64_t i) { work(static_cast<size_t>(i)); });
    };
    each([&](size_t i) { feeds[i] = growers[i]->next(); });
    for (size_t i = growers.size(); i-- > 0;) {
      if (feeds[i]) continue;
      growers.erase(growers.begin() + static_cast<std::ptrdiff_t>(i));
      feeds.erase(feeds.begin() + static_cast<std::ptrdiff_t>(i));
    }
    std::vector<Chain> chains;
    for (const auto& feed : feeds) chains.emplace_back(feed->passes);
    const auto hidden = hidden_of_chains(model, chains, how, "generating");
    each([&](size_t i) { growers[i]->take(feeds[i]->last_hidden(hidden[i])); });
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

  const UnchangedScope all_answers;
  std::vector<Answer> answers(prompts.size());
  std::mutex speaking;
  Growers growers;
  for (int64_t worker = 0; worker < workers; ++worker) {
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
    growers.push_back(std::make_unique<Grower>(writer, std::move(growing), answers));
  }
  if (writer.model.stream()) grow_by_layers(writer.model, growers, threads);
  else grow_apart(growers, threads);
  return answers;
}

}  // namespace retort
