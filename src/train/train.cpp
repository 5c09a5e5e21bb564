#include "train/train.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/random.h"
#include "base/stop.h"
#include "formats/weight_file.h"
#include "ops/workers.h"
#include "report/metrics.h"
#include "train/batches.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/step.h"

namespace retort {
namespace {

constexpr auto kTrainedFile = "trained.safetensors";

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

uint64_t resident_bytes() {
  uint64_t all = 0, resident = 0;
  if (auto* file = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(file, "%lu %lu", &all, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

class Run {
 public:
  Run(const TrainSpec& spec, const TrainJob& job, const TrainWatch& watch)
      : spec_(spec), job_(job), watch_(watch), threads_(usable_threads(spec.threads)),
        batches_(job.samples, spec.batch, static_cast<uint64_t>(spec.seed)), optimizer_(spec.optimizer, job.trainables, threads_) {
    for (const auto& trainable : job.trainables) leaves_.push_back(*trainable.tensor);
    state_.planned = spec.steps > 0 ? spec.steps : batches_.steps(spec.epochs);
    if (!job.held_out.empty()) {
      std::vector<int64_t> all(job.held_out.size());
      for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
      held_out_ = plan_step(job.held_out, all, spec.batch.row_tokens, threads_);
    }
    if (!batches_.unsupervised().empty()) {
      const auto& first = job.samples[static_cast<size_t>(batches_.unsupervised().front())];
      note(fmt::format("{} of {} training samples have no supervised token and are left out; the first is {}", batches_.unsupervised().size(),
                       job.samples.size(), printable(first.id)));
    }
  }

  TrainResult run() {
    metrics_.emplace(job_.folder, state_.steps);
    if (watch_.on_start) watch_.on_start(state_.steps, state_.planned);
    for (;;) {
      if (evaluation_due()) evaluate();
      if (finished()) break;
      leave_if_stopped("training");
      step();
    }
    save_trained();
    state_.peak_bytes = peak_resident_bytes();
    return state_;
  }

 private:
  bool finished() const { return state_.steps >= state_.planned || state_.stopped_early; }

  bool evaluation_due() const {
    if (held_out_.forests.empty() || evaluated_ == state_.steps) return false;
    if (state_.steps >= state_.planned) return true;
    return spec_.evaluate.every > 0 && state_.steps % spec_.evaluate.every == 0;
  }

  Pass pass_of(const Forest& forest, int64_t index) const {
    auto pass = make_pass(forest, job_.compute);
    pass.training = true;
    pass.dropout_key = Draws(static_cast<uint64_t>(spec_.seed), "dropout", static_cast<uint64_t>(state_.steps)).bits(static_cast<uint64_t>(index));
    pass.recompute = spec_.recompute;
    pass.embedding_noise = static_cast<float>(spec_.neftune_alpha);
    return pass;
  }

  void step() {
    const auto start = Clock::now();
    auto place = place_;
    const auto chosen = batches_.take(place);
    const auto plan = plan_step(job_.samples, chosen, spec_.batch.row_tokens, threads_);
    StepSums sums;
    if (!add_gradients(job_.model, job_.objective, plan, [&](const Forest& forest, int64_t index) { return pass_of(forest, index); }, leaves_, threads_, sums))
      leave_if_stopped("training");

    StepRecord record;
    record.steps = state_.planned;
    record.loss = sums.nats / sums.weight;
    record.gradient_norm = gradient_norm(sums.gradients, threads_) / sums.weight;
    record.learning_rate = spec_.optimizer.learning_rate * schedule_share(spec_.schedule, state_.steps, state_.planned);
    record.supervised = plan.supervised;
    record.tokens = plan.saving.plain_rows;
    record.rows = plan.saving.forest_rows;
    if (sums.weight == 0) {
      skip(record, chosen, "nothing in it is supervised");
      record.loss = record.gradient_norm = 0;
    } else if (!std::isfinite(record.loss) || !std::isfinite(record.gradient_norm)) {
      ++bad_in_a_row_;
      skip(record, chosen, std::isfinite(record.loss) ? "its gradient is not finite" : "its loss is not finite");
    } else {
      bad_in_a_row_ = 0;
      const double share = clip_share(record.gradient_norm, spec_.optimizer.clip_norm) / sums.weight;
      if (!optimizer_.update(sums.gradients, share, record.learning_rate))
        throw Failure(fmt::format("step {}: the update made weights that are not finite; lower train.optimizer.learning_rate", state_.steps + 1));
    }
    place_ = place;
    record.step = ++state_.steps;
    if (!record.skipped) state_.last_loss = record.loss;
    state_.tokens += record.tokens;
    state_.rows += record.rows;
    state_.supervised += record.supervised;
    record.seconds = seconds_since(start);
    record.resident_bytes = resident_bytes();
    state_.seconds += record.seconds;
    tell(record);
    if (bad_in_a_row_ >= spec_.bad_steps)
      throw Failure(fmt::format("step {}: {} steps in a row were not finite; lower train.optimizer.learning_rate, or look at the samples named above",
                                record.step, bad_in_a_row_));
  }

  void skip(StepRecord& record, const std::vector<int64_t>& chosen, const std::string& why) {
    record.skipped = true;
    ++state_.skipped;
    std::string ids;
    constexpr size_t kNamed = 4;
    for (size_t i = 0; i < std::min(kNamed, chosen.size()); ++i)
      ids += (i ? ", " : "") + printable(job_.samples[static_cast<size_t>(chosen[i])].id);
    if (chosen.size() > kNamed) ids += fmt::format(" and {} more", chosen.size() - kNamed);
    note(fmt::format("step {} is skipped: {} (samples {})", state_.steps + 1, why, ids));
  }

  void evaluate() {
    const auto start = Clock::now();
    const auto loss = mean_loss(job_.model, job_.objective, held_out_, [&](const Forest& forest, int64_t) { return make_pass(forest, job_.compute); }, threads_);
    evaluated_ = state_.steps;
    state_.seconds += seconds_since(start);
    if (!loss) return;
    (state_.steps == 0 ? state_.held_out_before : state_.held_out_after) = *loss;
    metrics_->add(state_.steps, {{"held_out_loss", *loss}});
    if (watch_.on_evaluation) watch_.on_evaluation(state_.steps, *loss);
  }

  void tell(const StepRecord& record) {
    Scalars scalars{{"loss", record.loss}, {"learning_rate", record.learning_rate}, {"gradient_norm", record.gradient_norm},
                    {"supervised", static_cast<double>(record.supervised)}, {"tokens", static_cast<double>(record.tokens)}, {"rows", static_cast<double>(record.rows)}};
    if (record.skipped) scalars.emplace_back("skipped", 1);
    metrics_->add(record.step, scalars);
    metrics_->add_speed(record.step, {{"seconds", record.seconds}, {"tokens_per_second", static_cast<double>(record.tokens) / record.seconds},
                                      {"resident_bytes", static_cast<double>(record.resident_bytes)}});
    if (watch_.on_step) watch_.on_step(record);
  }

  void note(const std::string& line) const {
    if (watch_.on_note) watch_.on_note(line);
  }

  void save_trained() const {
    std::vector<TensorSource> tensors;
    for (const auto& [name, tensor] : job_.trainables)
      tensors.push_back(tensor_source(name, WeightType::f32, tensor->sizes().vec(), {static_cast<const std::byte*>(tensor->const_data_ptr()), tensor->nbytes()}));
    write_safetensors(job_.folder / kTrainedFile, tensors, {});
  }

  const TrainSpec& spec_;
  const TrainJob& job_;
  const TrainWatch& watch_;
  const int64_t threads_;
  Batches batches_;
  Optimizer optimizer_;
  std::vector<Tensor> leaves_;
  StepPlan held_out_;
  std::optional<MetricsLog> metrics_;

  TrainResult state_;
  Batches::Place place_;
  int64_t evaluated_ = -1, bad_in_a_row_ = 0;
};

}  // namespace

TrainResult train(const TrainSpec& spec, const TrainJob& job, const TrainWatch& watch) {
  if (job.trainables.empty()) throw RecipeError("adapter: nothing is trainable; choose adapter.kind lora, rslora, dora or full");
  return Run(spec, job, watch).run();
}

void load_trained(const std::filesystem::path& folder, const std::vector<NamedTensor>& trainables) {
  const auto file = open_safetensors(folder / kTrainedFile);
  for (const auto& [name, tensor] : trainables) {
    const auto* view = file.find(name);
    if (!view) corrupt(file.path.string(), name, "is missing; the run trained something else");
    if (view->type != WeightType::f32 || view->shape != tensor->sizes().vec())
      corrupt(file.path.string(), name, fmt::format("has shape [{}], the model needs fp32 [{}]", fmt::join(view->shape, ", "), fmt::join(tensor->sizes().vec(), ", ")));
    std::memcpy(tensor->mutable_data_ptr(), view->data.data(), view->data.size());
    tensor->unsafeGetTensorImpl()->bump_version();
  }
  if (file.tensors.size() != trainables.size())
    corrupt(file.path.string(), "", fmt::format("holds {} tensors, this model trains {}; the run trained something else", file.tensors.size(), trainables.size()));
}

}  // namespace retort
