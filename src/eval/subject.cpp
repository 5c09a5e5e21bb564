#include "eval/subject.h"

#include <algorithm>

#include "base/stop.h"
#include "eval/common_prefix.h"
#include "ops/workers.h"
#include "schedule/read.h"
#include "text/thoughts.h"

namespace retort {

const ChatTemplate& chat_of(const Subject& subject) {
  return subject.chat ? *subject.chat : *find_chat_template("plain");
}

std::string marked_text(const Tokenizer& tokenizer, const Answer& answer, const ThoughtMarks& own) {
  const auto families = thought_marks();
  const auto is_mark = [&](std::string_view token) {
    return std::find(families.begin(), families.end(), token) != families.end() ||
           own.open.find(token) != std::string::npos || own.close.find(token) != std::string::npos ||
           own.header.find(token) != std::string::npos;
  };
  std::string text;
  const bool cut = answer.finish == Finish::stop_text;  // which is no part of the answer
  size_t left = answer.text.size();
  for (const auto id : answer.tokens) {
    if (tokenizer.is_special(id)) {
      if (const auto token = tokenizer.token_text(id); (!cut || left > 0) && is_mark(token)) text += token;
      continue;
    }
    auto bytes = tokenizer.token_bytes(id);
    bytes.resize(std::min(bytes.size(), left));
    left -= bytes.size();
    text += bytes;
  }
  return text;
}

std::string spoken(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt, const std::string& answer,
                   const ThoughtMarks& own) {
  constexpr size_t kEnd = 16;  // tokens that an opening mark and white space take at most
  const auto end = std::span(prompt).last(std::min(prompt.size(), kEnd));
  return without_thoughts(answer, ends_inside_thought(tokenizer.decode(end), own), own);
}

Writer writer_of(const Subject& subject) {
  GenerateSpec how;
  how.threads = subject.threads;
  how.batch = subject.batch;
  how.prefill_rows = subject.row_tokens;
  how.kv = subject.kv;
  return {subject.model, subject.tokenizer, subject.compute, how};
}

std::vector<SampleLikelihood> likelihoods(const Subject& subject, const std::vector<Sample>& samples) {
  // A beginning that all share is worth a cache when it would fill a good part of every pass.
  const auto threads = usable_threads(subject.threads);
  auto shared = common_rows(samples);
  auto forests = build_forests(samples, subject.row_tokens);
  if (shared * 16 < subject.row_tokens || static_cast<int64_t>(forests.size()) < 2 || subject.model.stream())
    shared = 0;
  if (shared > 0) forests = build_forests(without_first(samples, shared), subject.row_tokens);
  int64_t most_rows = 0;
  for (const auto& forest : forests) most_rows = std::max(most_rows, forest.size());
  CommonPrefix prefix(subject,
                      shared > 0 ? std::span(samples[0].tokens).first(static_cast<size_t>(shared))
                                 : std::span<const int32_t>(),
                      most_rows);
  std::vector<Scores> scores(forests.size());
  const auto score = [&](int64_t i, const Tensor& hidden, const Pass& pass) {
    const auto& forest = forests[static_cast<size_t>(i)];
    scores[static_cast<size_t>(i)] = score_targets(
        hidden, pass.rows.defined() ? asked_rows(forest).targets : forest.targets, subject.model.head, pass);
  };
  if (subject.model.stream()) {
    std::vector<int64_t> texts;
    for (size_t i = 0; i < forests.size(); ++i)
      if (!forests[i].targets.empty()) texts.push_back(static_cast<int64_t>(i));
    const auto pass_of = [&](int64_t i) {
      auto pass = make_pass(forests[static_cast<size_t>(i)], subject.compute, subject.model.device());
      ask_for(pass, asked_rows(forests[static_cast<size_t>(i)]).rows);
      return pass;
    };
    read_texts({{subject.model, pass_of}}, texts, threads, "evaluating",
               [&](int64_t i, Read&& read) { score(i, read.hidden[0], read.passes[0]); });
  } else {
    const auto read_one = [&](int64_t i) {
      leave_if_stopped("evaluating");
      const auto& forest = forests[static_cast<size_t>(i)];
      if (forest.targets.empty()) return;
      const auto [hidden, pass] = prefix.hidden(forest, asked_rows(forest).rows);
      score(i, hidden, pass);
    };
    (subject.model.device().is_cpu() ? run_workers : run_in_turn)(
        threads, static_cast<int64_t>(forests.size()), read_one, Gradients::off);
  }
  std::vector<SampleLikelihood> sums(samples.size());
  for (size_t i = 0; i < forests.size(); ++i) {  // in forest order, whatever thread was first
    const auto& targets = forests[i].targets;
    if (targets.empty()) continue;
    const auto log_p = scores[i].log_probabilities.contiguous();
    const auto best = scores[i].argmax.contiguous();
    for (size_t t = 0; t < targets.size(); ++t) {
      auto& sum = sums[targets[t].sample];
      sum.log_probability += static_cast<double>(targets[t].weight) * log_p.const_data_ptr<float>()[t];
      sum.weight += targets[t].weight;
      sum.correct += best.const_data_ptr<int64_t>()[t] == targets[t].label;
      ++sum.tokens;
    }
  }
  return sums;
}

}  // namespace retort
