#include "distill/on_policy.h"

#include <chrono>

#include "base/error.h"
#include "base/files.h"
#include "base/json_fields.h"
#include "distill/objective.h"
#include "distill/own_answers.h"
#include "ops/workers.h"
#include "train/batches.h"
#include "train/fingerprint.h"

namespace retort {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr const char* kTrained = "trained.safetensors";  // what train() leaves
constexpr const char* kSummary = "round.json";           // written last: the round is finished

std::string round_name(int64_t number) { return fmt::format("round-{:02}", number); }

size_t prompt_size(const Sample& sample) {
  size_t size = 1;
  while (size < sample.weights.size() && sample.weights[size] == 0) ++size;
  return size;
}

// As train() would count them.
int64_t planned_steps(const TrainSpec& spec, const TrainJob& job) {
  if (spec.steps > 0) return spec.steps;
  return Batches(job.samples, spec.batch, static_cast<uint64_t>(spec.seed)).steps(spec.epochs);
}

uint64_t bytes_of(Model& model) {
  uint64_t sum = model.embedding.weight.stored_bytes();
  for (const auto* linear : model.linears()) sum += linear->weight.stored_bytes();
  return model.config.tied_head ? sum : sum + model.head.linear.weight.stored_bytes();
}

// How the rounds of a training are made, but for what each of them learns from.
Fingerprint made_from(const TrainSpec& spec, const TrainJob& job) {
  return without_machine(full_fingerprint(spec, job, usable_threads(spec.threads)));
}

// A finished round is taken as it is by the training that made it, and by no other.
void require_same_rounds(const std::filesystem::path& folder, const Fingerprint& then,
                         const Fingerprint& now) {
  if (const auto different = differences(then, now); !different.empty())
    throw RecipeError(
        fmt::format("{}: this round was made otherwise ({}); name a new folder (run.folder) to train by this "
                    "recipe from the beginning, or make that equal again",
                    folder.string(), different));
}

// round.json.
struct RoundSummary {
  Fingerprint made_from;
  OnPolicyRound round;
  TrainResult train;
  template <class Visitor> void fields(Visitor& field) {
    field.rare("made_from", made_from);
    field("answers", round.answers);
    field("answer_tokens", round.answer_tokens);
    field("positions", round.positions);
    field("seconds_answering", round.seconds_answering);
    field("seconds_grading", round.seconds_grading);
    field("seconds_training", round.seconds_training);
    field("teacher_bytes", round.teacher_bytes);
    field("steps", train.steps);
    field("tokens", train.tokens);
    field("rows", train.rows);
    field("supervised", train.supervised);
    field("skipped", train.skipped);
    field("last_loss", train.last_loss);
    field("peak_bytes", train.peak_bytes);
  }
};

RoundSummary summary_in(const std::filesystem::path& folder) {
  return read_as<RoundSummary>(
      read_json(folder / kSummary),
      {(folder / kSummary).string(), "", "remove the folder of this round to make it again"});
}

void add(OnPolicyResult& all, const RoundSummary& summary) {
  const auto& round = summary.round;
  const auto& train = summary.train;
  auto& sum = all.train;
  sum.steps += train.steps;
  sum.tokens += train.tokens;
  sum.rows += train.rows;
  sum.supervised += train.supervised;
  sum.skipped += train.skipped;
  sum.last_loss = train.last_loss;
  sum.peak_bytes = std::max(sum.peak_bytes, train.peak_bytes);
  sum.seconds += round.seconds_answering + round.seconds_grading + round.seconds_training;
  all.rounds.push_back(round);
}

}  // namespace

std::vector<Sample> on_policy_samples(const OnPolicySpec& spec, const OnPolicyJob& job, OnPolicyRound& round,
                                      uint64_t seed, int64_t threads) {
  const auto& data = job.train.samples;
  const auto order = shuffled(static_cast<int64_t>(data.size()),
                              Draws(seed, "on-policy prompts", static_cast<uint64_t>(round.round)));
  std::vector<Sample> chosen;
  for (const auto index : order) {
    auto sample = data[static_cast<size_t>(index)];
    if (prompt_size(sample) < sample.tokens.size()) chosen.push_back(std::move(sample));
    if (chosen.size() == static_cast<size_t>(spec.prompts)) break;
  }
  const auto from_data =
      static_cast<size_t>(std::lround(spec.data_share * static_cast<double>(chosen.size())));
  std::vector<Sample> samples;
  for (size_t i = 0; i < from_data; ++i) samples.push_back(chosen[i]);

  std::vector<std::vector<int32_t>> prompts;
  for (size_t i = from_data; i < chosen.size(); ++i)
    prompts.emplace_back(chosen[i].tokens.begin(),
                         chosen[i].tokens.begin() + static_cast<std::ptrdiff_t>(prompt_size(chosen[i])));
  if (prompts.empty()) return samples;
  SampleSpec how;
  how.temperature = spec.temperature;
  how.max_tokens = spec.max_tokens;
  how.seed = static_cast<int64_t>(seed);
  Writer writer{job.train.model, job.tokenizer, job.train.compute};
  writer.how.threads = threads;
  const at::NoGradGuard no_graph;
  const auto answers = generate(writer, prompts, {how, job.stops}, nullptr, round.round * spec.prompts);
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto& asked = chosen[from_data + i];
    auto sample = answered(prompts[i], answers[i],
                           asked.weights.back() != 0 ? std::optional(asked.tokens.back()) : std::nullopt);
    sample.id = asked.id;
    if (sample.tokens.size() > prompts[i].size()) samples.push_back(std::move(sample));
    ++round.answers, round.answer_tokens += static_cast<int64_t>(answers[i].tokens.size());
  }
  return samples;
}

void require_resumable_rounds(const TrainSpec& spec, const TrainJob& job) {
  const auto first = job.folder / round_name(0);
  if (std::filesystem::exists(first / kSummary))
    require_same_rounds(first, summary_in(first).made_from, made_from(spec, job));
}

OnPolicyResult train_on_policy(const OnPolicySpecs& specs, const OnPolicyJob& job, const TrainWatch& watch,
                               const std::function<void(const OnPolicyRound&)>& on_round) {
  const auto& train_spec = specs.train;
  const auto& distill = specs.distill;
  const auto& teacher = specs.teacher;
  const auto& spec = *distill.on_policy;
  OnPolicyResult all;
  const auto steps = planned_steps(train_spec, job.train);
  if (steps < spec.rounds)
    throw RecipeError(fmt::format(
        "distill.on_policy.rounds: {} rounds for {} steps; a round needs at least one", spec.rounds, steps));
  const auto made_now = made_from(train_spec, job.train);
  std::filesystem::path last;
  for (int64_t number = 0; number < spec.rounds; ++number) {
    const auto folder = job.train.folder / round_name(number);
    last = folder;
    if (std::filesystem::exists(folder / kSummary)) {
      auto summary = summary_in(folder);
      require_same_rounds(folder, summary.made_from, made_now);
      load_trained(folder, job.train.trainables);
      summary.round.round = number;
      add(all, summary);
      continue;
    }
    OnPolicyRound round{number, 0, 0, 0, 0, 0, 0, 0};
    auto start = Clock::now();
    const auto samples =
        on_policy_samples(spec, job, round, static_cast<uint64_t>(train_spec.seed), train_spec.threads);
    if (samples.empty())
      throw RecipeError(
          "distill.on_policy: no answer has a token; the student ends at once, train it on the data first");
    round.seconds_answering = since(start);

    start = Clock::now();
    const TeachJob teaching{*job.teacher.loaded.model,
                            job.teacher.compute,
                            job.teacher.vocabulary,
                            distill.temperature,
                            samples,
                            folder / "teacher",
                            cache_provenance(job.identity, samples, teacher.keep),
                            teacher.keep,
                            teacher.pass_tokens,
                            teacher.threads,
                            0,
                            1};
    teach(teaching);
    const auto cache = open_whole_cache(teaching);
    round.positions = cache->positions();
    round.teacher_bytes = bytes_of(*job.teacher.loaded.model);
    round.seconds_grading = since(start);

    start = Clock::now();
    auto part = train_spec;
    part.steps = steps * (number + 1) / spec.rounds - steps * number / spec.rounds;
    part.seed = train_spec.seed + number;
    const Earlier earlier{number > 0 ? job.train.folder / round_name(number - 1) : "",
                          steps * number / spec.rounds, steps};
    auto fingerprint = job.train.fingerprint;
    fingerprint.emplace_back("round", fmt::format("{} of {} steps", number, steps));
    fingerprint.emplace_back("round's samples", samples_hash(samples));
    const Samples unused;
    const TrainJob training{job.train.model,
                            job.train.trainables,
                            samples,
                            number + 1 == spec.rounds ? job.train.held_out : unused,
                            cached_distillation(distill, cache),
                            job.train.compute,
                            folder,
                            fingerprint,
                            {},
                            earlier};
    const auto result = train(part, training, watch);
    round.seconds_training = since(start);
    all.train.held_out_after = result.held_out_after;
    const RoundSummary summary{made_now, round, result};
    write_text(folder / kSummary, json_of(summary).dump(1) + "\n");
    add(all, summary);
    if (on_round) on_round(round);
  }
  all.train.planned = all.train.steps;
  AtomicFile out(job.train.folder / kTrained);
  out.write(read_text(last / kTrained, size_t{1} << 40));
  out.commit();
  return all;
}

}  // namespace retort
