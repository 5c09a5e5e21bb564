#include "eval/subject.h"

#include <algorithm>

#include "base/parcel.h"
#include "base/stop.h"
#include "eval/common_prefix.h"
#include "eval/company.h"
#include "ops/device_copies.h"
#include "ops/workers.h"
#include "schedule/divided_read.h"
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

namespace {

constexpr auto kDoing = "evaluating";

// Of each forest that has targets.
using ForestScores = std::vector<Scores>;

// The scores of the forests of one rank's part, for rank 0.
std::string packed(const std::vector<Forest>& forests, const Share& part, const ForestScores& scores) {
  Parcel parcel;
  for (auto i = static_cast<size_t>(part.begin); i < static_cast<size_t>(part.end); ++i) {
    if (forests[i].targets.empty()) continue;
    const auto log_p = scores[i].log_probabilities.contiguous(), best = scores[i].argmax.contiguous();
    const auto* logs = log_p.const_data_ptr<float>();
    const auto* labels = best.const_data_ptr<int64_t>();
    parcel.put(std::vector<float>(logs, logs + log_p.numel()));
    parcel.put(std::vector<int64_t>(labels, labels + best.numel()));
  }
  return parcel.bytes();
}

void unpack(std::string bytes, const std::vector<Forest>& forests, const Share& part, ForestScores& scores) {
  Parcel parcel(std::move(bytes));
  for (auto i = static_cast<size_t>(part.begin); i < static_cast<size_t>(part.end); ++i) {
    if (forests[i].targets.empty()) continue;
    const auto log_p = parcel.take<std::vector<float>>();
    const auto best = parcel.take<std::vector<int64_t>>();
    scores[i].log_probabilities = at::tensor(log_p, at::TensorOptions(at::kFloat));
    scores[i].argmax = at::tensor(best, at::TensorOptions(at::kLong));
  }
}

// With peers each rank scores its part; rank 0 has all afterwards. False where a stop was asked for.
bool score_parts(Peers& peers, int64_t threads, const std::vector<Forest>& forests,
                 const std::function<void(int64_t forest)>& read_one, ForestScores& scores) {
  const auto count = static_cast<int64_t>(forests.size());
  const auto own = share_of(0, count, &peers);
  const bool done = done_by_all(peers, [&] {
    run_workers(
        threads_of_share(threads, count, own.size()), own.size(), [&](int64_t i) { read_one(own.begin + i); },
        Gradients::off);
  });
  if (!done) return false;
  auto all = gather_texts(peers, peers.rank() == 0 ? "" : packed(forests, own, scores));
  for (int64_t rank = 1; rank < static_cast<int64_t>(all.size()); ++rank)
    unpack(std::move(all[static_cast<size_t>(rank)]), forests, share_of_rank(0, count, rank, peers.count()),
           scores);
  return true;
}

// Of all ranks those of rank 0 are whole; nothing where a stop was asked for at some.
std::optional<std::vector<SampleLikelihood>> measure(const Subject& subject,
                                                     const std::vector<Sample>& samples, Peers* peers) {
  const auto threads = usable_threads(subject.threads);
  const UnchangedScope one_measurement;
  const bool by_layers = peers && divides_layers(*peers, subject.model);
  std::vector<Forest> forests;
  std::optional<CommonPrefix> prefix;
  const auto prepare = [&] {
    // A beginning that all share is worth a cache when it would fill a good part of every pass.
    auto shared = common_rows(samples);
    forests = build_forests(samples, subject.row_tokens);
    if (shared * 16 < subject.row_tokens || static_cast<int64_t>(forests.size()) < 2 ||
        subject.model.stream() || by_layers)
      shared = 0;
    if (shared > 0) forests = build_forests(without_first(samples, shared), subject.row_tokens);
    int64_t most_rows = 0;
    for (const auto& forest : forests) most_rows = std::max(most_rows, forest.size());
    prefix.emplace(subject,
                   shared > 0 ? std::span(samples[0].tokens).first(static_cast<size_t>(shared))
                              : std::span<const int32_t>(),
                   most_rows);
  };
  if (!peers) prepare();
  else if (!done_by_all(*peers, prepare)) return std::nullopt;
  ForestScores scores(forests.size());
  const auto score = [&](int64_t i, const Tensor& hidden, const Pass& pass) {
    const auto& forest = forests[static_cast<size_t>(i)];
    scores[static_cast<size_t>(i)] = score_targets(
        hidden, pass.rows.defined() ? asked_rows(forest).targets : forest.targets, subject.model.head, pass);
  };
  const auto read_one = [&](int64_t i) {
    leave_if_stopped(kDoing);
    const auto& forest = forests[static_cast<size_t>(i)];
    if (forest.targets.empty()) return;
    const auto continued = prefix->hidden(forest, asked_rows(forest).rows);
    score(i, continued.hidden, continued.pass);
  };
  if (by_layers || subject.model.stream()) {
    std::vector<int64_t> texts;
    for (size_t i = 0; i < forests.size(); ++i)
      if (!forests[i].targets.empty()) texts.push_back(static_cast<int64_t>(i));
    const auto pass_of = [&](int64_t i) {
      auto pass = make_pass(forests[static_cast<size_t>(i)], subject.compute, subject.model.device());
      ask_for(pass, asked_rows(forests[static_cast<size_t>(i)]).rows);
      return pass;
    };
    const auto use = [&](int64_t i, Read&& read) { score(i, read.hidden[0], read.passes[0]); };
    if (!by_layers) read_texts({{subject.model, pass_of}}, texts, threads, kDoing, use);
    else if (!read_divided({.model = subject.model,
                            .peers = *peers,
                            .pass = pass_of,
                            .use = use,
                            .packed =
                                [&](int64_t i) {
                                  return packed(forests, {i, i + 1}, scores);
                                },
                            .unpack =
                                [&](int64_t i, std::string bytes) {
                                  unpack(std::move(bytes), forests, {i, i + 1}, scores);
                                }},
                           texts, abreast(threads, static_cast<int64_t>(texts.size())), kDoing))
      return std::nullopt;
    if (peers && peers->rank() > 0) return std::vector<SampleLikelihood>();
  } else if (peers) {
    if (!score_parts(*peers, threads, forests, read_one, scores)) return std::nullopt;
    if (peers->rank() > 0) return std::vector<SampleLikelihood>();
  } else {
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

// What another rank needs besides the model. The threads inside an operation are those of the caller.
std::string request(const Subject& subject, const std::vector<Sample>& samples) {
  Parcel parcel;
  parcel.put(subject.compute).put(usable_threads(subject.threads)).put(at::get_num_threads());
  parcel.put(subject.row_tokens).put(subject.kv).put(samples.size());
  for (const auto& sample : samples) parcel.put(sample.tokens).put(sample.weights);
  return parcel.bytes();
}

}  // namespace

std::vector<SampleLikelihood> likelihoods(const Subject& subject, const std::vector<Sample>& samples) {
  if (!subject.company) return *measure(subject, samples, nullptr);
  auto& peers = subject.company->peers;
  auto asked = request(subject, samples);  // nothing may fail between the word and it
  subject.company->call();
  broadcast_text(peers, 0, std::move(asked));
  if (auto measured = measure(subject, samples, &peers)) return std::move(*measured);
  leave_with_all(kDoing);
}

void help_with_scores(Peers& peers, const Model& model, const Tokenizer& tokenizer) {
  Parcel asked(broadcast_text(peers, 0, ""));
  Subject subject{model, tokenizer, nullptr, asked.take<at::ScalarType>()};
  subject.threads = asked.take<int64_t>();
  at::set_num_threads(asked.take<int>());
  subject.row_tokens = asked.take<int64_t>();
  subject.kv = asked.take<std::string>();
  std::vector<Sample> samples(asked.take<size_t>());
  for (auto& sample : samples) {
    sample.tokens = asked.take<std::vector<int32_t>>();
    sample.weights = asked.take<std::vector<float>>();
  }
  measure(subject, samples, &peers);
}

}  // namespace retort
