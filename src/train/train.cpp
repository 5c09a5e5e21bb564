#include "train/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/machine_memory.h"
#include "base/profile.h"
#include "base/random.h"
#include "base/stop.h"
#include "base/system_failure.h"
#include "base/unfinished_file.h"
#include "ops/memory.h"
#include "ops/workers.h"
#include "train/checkpoint.h"
#include "train/fingerprint.h"
#include "train/interval.h"
#include "train/killed_step.h"
#include "train/optimizer.h"
#include "train/peers.h"
#include "train/run_lock.h"
#include "train/run_log.h"
#include "train/run_state.h"
#include "train/schedule.h"
#include "train/state_bytes.h"
#include "train/step.h"

namespace retort {
namespace {

constexpr auto kTrainedFile = "trained.safetensors";
constexpr std::chrono::seconds kRetrySave{60};    // while training goes on
constexpr std::chrono::seconds kRetryLast{2};     // at the end, where there is nothing else to do
constexpr std::chrono::seconds kTellBatches{10};  // from one entry about them to the next, at least
constexpr std::chrono::seconds kHope{10};  // what does not pass by itself, somebody may mend who reads of it

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::optional<double> indexer_kl(const Model& model) {
  IndexLearned::Sum all;
  for (int64_t layer = 0; layer < model.config.layers; ++layer)
    if (auto* learned = model.index_learned(layer)) {
      const auto sum = learned->take();
      all.nats += sum.nats, all.rows += sum.rows;
    }
  if (all.rows == 0) return std::nullopt;
  return all.nats / static_cast<double>(all.rows);
}

void load_leaves(const std::filesystem::path& file, const std::vector<NamedTensor>& trainables) {
  load_tensors(file, bytes_of(trainables));
  for (const auto& trainable : trainables) trainable.tensor->unsafeGetTensorImpl()->bump_version();
}

std::vector<NamedTensor> all_of(const TrainJob& job) {
  auto all = job.trainables;
  all.insert(all.end(), job.auxiliary.begin(), job.auxiliary.end());
  return all;
}

// Halves of files that a killed session was writing.
void remove_parts(const std::filesystem::path& folder) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (is_unfinished(name) && (name.starts_with(kTrainedFile) || name.starts_with("metrics.jsonl") ||
                                name.starts_with("speed.jsonl")))
      std::filesystem::remove(entry.path(), ignored);
  }
}

// A training may go on with the checkpoint at PATH, whose state says how it was made, or RecipeError.
// `nothing_left`: all its steps are made. Returns what differs; "" when the result will be that of a training
// that was never stopped.
std::string require_alike(const std::filesystem::path& path, const Fingerprint& then, const Fingerprint& now,
                          bool nothing_left, bool resume_inexact) {
  // Once nothing is left to compute, another machine or build changes nothing.
  const auto different =
      nothing_left ? differences(without_machine(then), without_machine(now)) : differences(then, now);
  if (different.empty()) return different;
  const std::string anew =
      "name a new folder (run.folder) to train by this recipe from the beginning, or make that equal again";
  if (nothing_left)
    throw RecipeError(fmt::format("{}: this training ended, made otherwise ({}); {}{}", path.string(),
                                  different, anew,
                                  resume_inexact ? "; train.checkpoint.resume_inexact finds no step left to "
                                                   "make and would give the same weights"
                                                 : ""));
  if (!resume_inexact)
    throw RecipeError(
        fmt::format("{}: the run so far was made otherwise ({}); {} (train.checkpoint.resume_inexact: true "
                    "goes on from the weights that are there: they keep what they learned from the samples "
                    "of then, also from those that have been removed since)",
                    path.string(), different, anew));
  return different;
}

class Training {
 public:
  Training(const TrainSpec& spec, const TrainJob& job, const TrainWatch& watch)
      : spec_(spec),
        job_(job),
        watch_(watch),
        threads_(usable_threads(spec.threads)),
        lock_(job.folder),
        checkpoints_(job.folder / "checkpoints"),
        batches_(job.samples, spec.batch, static_cast<uint64_t>(spec.seed)),
        evaluations_(interval(spec.evaluate.every, spec.evaluate.per_epoch)),
        saves_(interval(spec.checkpoint.every, spec.checkpoint.per_epoch)),
        all_(all_of(job)),
        optimizer_(spec.optimizer, all_, threads_) {
    for (const auto& trainable : all_) leaves_.push_back(*trainable.tensor);
    state_.fingerprint = full_fingerprint(spec, job, threads_);
    if (!job.held_out.empty()) {
      std::vector<int64_t> all(job.held_out.size());
      std::iota(all.begin(), all.end(), int64_t{0});
      held_out_ = plan_step(job.held_out, all, spec.batch.pass_tokens, parts());
    }
    if (!batches_.unsupervised().empty()) {
      const auto first = job.samples[static_cast<size_t>(batches_.unsupervised().front())];
      note(
          fmt::format("{} of {} training samples have no token that is learned and are left out; the first "
                      "is {}",
                      batches_.unsupervised().size(), job.samples.size(), printable(first.id)));
    }
  }

  TrainResult run() {
    if (job_.peers) require_equal(*job_.peers, state_.fingerprint);
    remove_parts(job_.folder);
    if (writes()) resume();
    if (job_.peers) share_start();
    state_.result.planned = planned();
    log_.emplace(job_.folder, state_.result.steps, state_.metrics_bytes, watch_);
    if (!saved_) event({.what = "training started"});
    if (watch_.on_start) watch_.on_start(state_.result.steps, state_.result.planned);
    try {
      for (;;) {
        if (evaluation_due()) evaluate();
        if (finished()) break;
        if (writes() && save_due()) try_to_save();
        leave_if_one_stopped();
        step();
      }
    } catch (const Stopped&) {
      if (writes()) save();
      throw;
    }
    if (writes()) patiently([&] { save(); });
    require_learned();
    if (!writes()) return state_.result;
    patiently([&] { choose_weights(); });
    patiently([&] { save_tensors(job_.folder / kTrainedFile, bytes_of(job_.trainables)); });
    event({.what = "training ended", .file = kTrainedFile, .sha256 = hash_in_folder(kTrainedFile)});
    state_.result.peak_bytes = peak_resident_bytes();
    return state_.result;
  }

 private:
  // Of several ranks one.
  bool writes() const { return !job_.peers || job_.peers->rank() == 0; }
  // A device has one forest at a time.
  int64_t parts() const { return spec_.batch.parts_or(job_.model.device().is_cpu() ? threads_ : 1); }
  // Where train.batch.parts cuts a step, no forest has several threads inside: they would change last bits.
  int64_t threads_for(const StepPlan& plan) const {
    if (spec_.batch.parts == 0 || !job_.model.device().is_cpu()) return threads_;
    return std::clamp<int64_t>(static_cast<int64_t>(plan.forests.size()), 1, threads_);
  }
  StepInterval interval(int64_t every, int64_t per_epoch) {
    return {every, per_epoch, per_epoch > 0 ? batches_.steps(1) : 1};
  }
  int64_t planned() { return spec_.steps > 0 ? spec_.steps : batches_.steps(spec_.epochs); }
  CheckpointName here() const { return {state_.result.steps, sums_.forests}; }
  bool finished() const {
    return state_.result.steps >= state_.result.planned || state_.result.stopped_early;
  }

  void resume() {
    const auto found = checkpoints_.newest([&](const std::string& line) { note(line); });
    if (!found) {
      if (!checkpoints_.list().empty()) note("no checkpoint is whole; training starts from the beginning");
      return take_earlier_moments();
    }
    const auto file = checkpoints_.path(*found) / "state.json";
    auto now = std::move(state_.fingerprint);
    state_ = run_state(checkpoints_.state(*found), file.string());
    state_.result.planned = planned();
    const auto different = require_alike(checkpoints_.path(*found), state_.fingerprint, now,
                                         finished() && !evaluation_due(), spec_.checkpoint.resume_inexact);
    if (!different.empty()) {
      note(
          fmt::format("continues inexactly: {}; the weights keep what they learned so far, also from samples "
                      "that have been removed since",
                      different));
      state_.result.resumed_inexactly = true;
    }
    state_.fingerprint = std::move(now);
    load_leaves(checkpoints_.path(*found) / "weights.safetensors", all_);
    load_tensors(checkpoints_.path(*found) / "optimizer.safetensors", optimizer_.states());
    optimizer_.updates = state_.updates;
    if (state_.forests > 0 && different.empty()) {  // the forests of another recipe or machine may be others
      sums_ = {.gradients = {}, .nats = state_.nats, .weight = state_.weight, .forests = state_.forests};
      for (const auto& trainable : all_)
        sums_.gradients.push_back(at::empty(trainable.tensor->sizes(), at::TensorOptions(at::kFloat)));
      load_tensors(checkpoints_.path(*found) / "gradients.safetensors", gradients());
    }
    saved_ = *found;
    earlier_seconds_ = state_.result.seconds;
    told_batches_ = state_.result.steps;
    checkpoint_event("training resumed", *found);
  }

  // All ranks go on from where rank 0 does.
  void share_start() {
    auto& peers = *job_.peers;
    state_.updates = optimizer_.updates;
    const auto text = broadcast_text(peers, 0, writes() ? to_json(state_).dump() : "");
    if (!writes()) {
      const std::string from = "what rank 0 says of the training so far";
      state_ = run_state(parse_json(text, from), from);
      optimizer_.updates = state_.updates;
    }
    for (const auto& tensor : bytes_of(all_)) broadcast(peers, 0, tensor.bytes);
    for (const auto& trainable : all_) trainable.tensor->unsafeGetTensorImpl()->bump_version();
    for (const auto& state : optimizer_.states()) broadcast(peers, 0, state.bytes);
    broadcast_sums(peers, 0, leaves_, sums_);
  }

  // All ranks leave at the same place, or one would wait for the gradients of another that is gone.
  void leave_if_one_stopped() {
    if (!job_.peers) return leave_if_stopped("training");
    const Span span({"word of all ranks", "step"});
    if (any_of(*job_.peers, stop_requested())) leave_with_all("training");
  }

  void tell_batches() {
    if (told_batches_ == state_.result.steps) return;
    event({.what = "batches"});
    told_batches_ = state_.result.steps;
    next_batches_ = Clock::now() + kTellBatches;
  }

  void event(TrainEvent what) const {
    if (!watch_.on_event) return;
    what.folder = job_.folder;
    what.step = state_.result.steps;
    what.batches = state_.batches;
    watch_.on_event(what);
  }
  // A record is worth no training: what cannot be hashed now is said without its hash.
  std::string hash_in_folder(const std::filesystem::path& file) const {
    try {
      return sha256_file(job_.folder / file);
    } catch (const Error&) { return ""; }
  }
  void checkpoint_event(const char* what, const CheckpointName& name) const {
    const auto file = checkpoints_.path(name).lexically_relative(job_.folder) / "manifest.json";
    event({.what = what, .file = file.string(), .sha256 = hash_in_folder(file)});
  }

  void take_earlier_moments() {
    if (job_.earlier.folder.empty()) return;
    const Checkpoints earlier(job_.earlier.folder / "checkpoints");
    const auto last = earlier.newest([&](const std::string& line) { note(line); });
    if (!last)
      throw RecipeError(
          fmt::format("{}: holds no whole checkpoint, whose moments this training goes on with; remove the "
                      "folder of the training before to make it again",
                      (job_.earlier.folder / "checkpoints").string()));
    optimizer_.updates =
        run_state(earlier.state(*last), (earlier.path(*last) / "state.json").string()).updates;
    load_tensors(earlier.path(*last) / "optimizer.safetensors", optimizer_.states());
  }

  std::vector<NamedBytes> gradients() {
    std::vector<NamedBytes> all;
    for (size_t i = 0; i < sums_.gradients.size(); ++i) {
      auto& sum = sums_.gradients[i];
      if (!sum.defined()) sum = at::zeros(leaves_[i].sizes(), at::TensorOptions(at::kFloat));
      all.push_back(bytes_of(all_[i].name, sum));
    }
    return all;
  }

  bool evaluation_due() const {
    if (held_out_.forests.empty() || state_.evaluated == state_.result.steps || sums_.forests > 0)
      return false;
    if (state_.result.steps >= state_.result.planned) return true;
    return evaluations_.due(state_.result.steps) || (state_.result.steps == 0 && evaluates_on_the_way());
  }
  // Then the loss of the untrained model is the first.
  bool evaluates_on_the_way() const { return spec_.evaluate.every > 0 || spec_.evaluate.per_epoch > 0; }

  Pass training_pass(const Forest& forest, int64_t index) const {
    auto pass = make_pass(forest, job_.compute, job_.model.device());
    pass.training = true;
    pass.dropout_key =
        Draws(static_cast<uint64_t>(spec_.seed), "dropout", static_cast<uint64_t>(state_.result.steps))
            .bits(static_cast<uint64_t>(index));
    pass.recompute = spec_.recompute;
    pass.embedding_noise = static_cast<float>(spec_.neftune_alpha);
    return pass;
  }

  void step() {
    const Span span({"step", "stage"});
    const auto start = Clock::now();
    auto place = state_.place;
    const auto epoch = place.epoch;
    const auto chosen = batches_.take(place);
    const auto plan = plan_step(job_.samples, chosen, spec_.batch.pass_tokens, parts());
    // A stop leaves the sums of the first forests, which are saved and continued: a step may be minutes of
    // work.
    const auto pass_of = [&](const Forest& forest, int64_t index) { return training_pass(forest, index); };
    state_.forests = sums_.forests;
    const auto walked = record_of_step(job_, state_, chosen, all_);
    const StepJob job{job_.model, job_.objective, plan, pass_of, threads_for(plan), walked.get(), job_.peers};
    if (!add_gradients(job, leaves_, sums_)) leave_with_all("training");
    if (walked) walked->remove();
    const auto sums = std::exchange(sums_, {});

    auto& result = state_.result;
    StepRecord record;
    record.step = result.steps + 1;
    record.steps = result.planned;
    record.learning_rate =
        spec_.optimizer.learning_rate *
        schedule_share(spec_.schedule, job_.earlier.steps + result.steps,
                       job_.earlier.steps_of_all > 0 ? job_.earlier.steps_of_all : result.planned);
    record.supervised = plan.supervised;
    record.tokens = plan.saving.plain_rows;
    record.rows = plan.saving.forest_rows;
    if (sums.weight == 0) {
      skip(record, chosen, "nothing in it is learned");
    } else {
      record.loss = sums.nats / sums.weight;
      record.gradient_norm = gradient_norm(sums.gradients, threads_) / sums.weight;
      if (std::isfinite(record.loss) && std::isfinite(record.gradient_norm)) {
        // One multiplication divides by the whole step's weight and clips.
        if (!optimizer_.update(sums.gradients,
                               clip_share(record.gradient_norm, spec_.optimizer.clip_norm) / sums.weight,
                               record.learning_rate))
          throw Failure(fmt::format(
              "step {}: the update made weights that are not finite; lower train.optimizer.learning_rate",
              record.step));
        result.last_loss = record.loss;
        state_.bad_in_a_row = 0;
      } else {
        ++state_.bad_in_a_row;
        skip(record, chosen,
             std::isfinite(record.loss) ? "its gradient is not finite" : "its loss is not finite");
      }
    }
    ++result.steps;
    state_.place = place;
    result.tokens += record.tokens;
    result.rows += record.rows;
    result.supervised += record.supervised;
    state_.batches = batches_after(state_.batches, job_.samples, chosen);
    record.indexer_kl = indexer_kl(job_.model);
    record.seconds = seconds_since(start);
    record.resident_bytes = resident_bytes();
    log_->step(record);
    log_->batch(record.step, epoch, chosen);
    if (watch_.on_step) watch_.on_step(record);
    if (Clock::now() >= next_batches_) tell_batches();
    if (state_.bad_in_a_row >= spec_.bad_steps)
      throw Failure(
          fmt::format("step {}: {} steps in a row were not finite; lower train.optimizer.learning_rate, or "
                      "look at the samples named above",
                      record.step, state_.bad_in_a_row));
  }

  // Weights that no step has changed are not what was asked for, however well the run ended otherwise.
  void require_learned() const {
    const auto& result = state_.result;
    if (result.steps == 0 || result.skipped < result.steps) return;
    throw Failure(fmt::format(
        "all {} steps of the training were skipped, no weight has changed: {}", result.steps,
        state_.bad_in_a_row > 0
            ? "neither loss nor gradient is finite; lower train.optimizer.learning_rate, try model.compute: "
              "f32, or look at the samples named above"
            : "nothing in their samples is learned; look at data.loss"));
  }

  void skip(StepRecord& record, const std::vector<int64_t>& chosen, const std::string& why) {
    record.skipped = true;
    ++state_.result.skipped;
    std::string ids;
    constexpr size_t kNamed = 4;
    for (size_t i = 0; i < std::min(kNamed, chosen.size()); ++i)
      ids += (i ? ", " : "") + printable(job_.samples[static_cast<size_t>(chosen[i])].id);
    if (chosen.size() > kNamed) ids += fmt::format(" and {} more", chosen.size() - kNamed);
    note(fmt::format("step {} is skipped: {} (samples {})", record.step, why, ids));
  }

  std::optional<double> held_out_loss() const {
    const auto pass_of = [&](const Forest& forest, int64_t) {
      return make_pass(forest, job_.compute, job_.model.device());
    };
    return mean_loss({.model = job_.model,
                      .objective = job_.measured.value_or(job_.objective),
                      .plan = held_out_,
                      .make_pass = pass_of,
                      .threads = threads_for(held_out_),
                      .peers = job_.peers});
  }

  void evaluate() {
    const Span span({"held-out loss", "stage"});
    auto& result = state_.result;
    const auto loss = held_out_loss();
    state_.evaluated = result.steps;
    if (!loss) return;
    (result.steps == 0 ? result.held_out_before : result.held_out_after) = *loss;
    log_->evaluation(result.steps, *loss);
    if (watch_.on_evaluation) watch_.on_evaluation(result.steps, *loss);
    tell_batches();
    event({.what = "held-out loss", .loss = *loss});
    if (std::isfinite(*loss) && (!state_.best_loss || *loss < *state_.best_loss)) {
      state_.best_loss = *loss;
      result.best_step = result.steps;
      state_.evaluations_since_best = 0;
      best_is_new_ = spec_.evaluate.keep_best;
    } else if (spec_.evaluate.patience > 0 && ++state_.evaluations_since_best >= spec_.evaluate.patience) {
      result.stopped_early = result.steps < result.planned;
    }
  }

  bool save_due() const {
    if (saved_ == here()) return false;
    return best_is_new_ || saves_.due(state_.result.steps) || (retry_ && Clock::now() >= *retry_);
  }

  void save() {
    if (saved_ == here()) return;
    const Span span({"checkpoint", "stage"});
    state_.result.seconds = earlier_seconds_ + seconds_since(session_);
    state_.updates = optimizer_.updates;
    state_.forests = sums_.forests;
    state_.nats = sums_.nats;
    state_.weight = sums_.weight;
    state_.metrics_bytes = log_->sync();
    checkpoints_.save(here(), {.weights = bytes_of(all_),
                               .optimizer = optimizer_.states(),
                               .gradients = sums_.forests > 0 ? gradients() : std::vector<NamedBytes>(),
                               .state = to_json(state_)});
    saved_ = here();
    best_is_new_ = false;
    retry_.reset();
    tell_batches();
    checkpoint_event("checkpoint", here());
    remove_older_checkpoints();
  }

  void remove_older_checkpoints() {
    const auto before = checkpoints_.list();
    try {
      checkpoints_.remove_older(spec_.checkpoint.keep_last, state_.result.best_step);
    } catch (const Failure& failure) {  // the new one is whole: the next save tries again
      note(fmt::format("an old checkpoint stays for now: {}", failure.what()));
    }
    const auto after = checkpoints_.list();
    for (const auto& name : before)
      if (std::find(after.begin(), after.end(), name) == after.end())
        event({.what = "deleted", .file = checkpoints_.path(name).lexically_relative(job_.folder).string()});
  }

  // Training is worth more than a checkpoint: a disk that is full now may have room later.
  void try_to_save() {
    try {
      save();
    } catch (const Failure& failure) {
      note(fmt::format("not saved at step {}, training goes on: {}", state_.result.steps, failure.what()));
      best_is_new_ = false;
      retry_ = Clock::now() + kRetrySave;
    }
  }

  // The end of a run is worth waiting for: as long as it takes where the reason may pass by itself, a moment
  // where it does not (a folder that was renamed).
  void patiently(const std::function<void()>& save_something) {
    const auto begin = Clock::now();
    for (bool told = false;; told = true) {
      try {
        return save_something();
      } catch (const Failure& failure) {
        const bool passes = dynamic_cast<const PassingFailure*>(&failure) != nullptr;
        if (!passes && Clock::now() >= begin + kHope) throw;
        if (!told)
          note(fmt::format("the result is not saved yet: {}; trying again every {} s{}", failure.what(),
                           kRetryLast.count(),
                           passes ? "" : fmt::format(", for {} s at most", kHope.count())));
        for (const auto until = Clock::now() + kRetryLast; Clock::now() < until;
             std::this_thread::sleep_for(std::chrono::milliseconds(50)))
          if (stop_requested()) throw;
      }
    }
  }

  // The weights of the lowest held-out loss take the place of the last ones.
  void choose_weights() {
    auto& result = state_.result;
    if (!spec_.evaluate.keep_best || !result.best_step || *result.best_step == result.steps) return;
    const CheckpointName best{*result.best_step, 0};
    try {
      checkpoints_.verify(best);
      load_leaves(checkpoints_.path(best) / "weights.safetensors", all_);
      result.held_out_after = state_.best_loss;
    } catch (const FormatError& error) {
      note(fmt::format("the best weights (step {}) cannot be had, the last ones stay: {}", best.steps,
                       error.what()));
    }
  }

  void note(const std::string& line) const {
    if (watch_.on_note) watch_.on_note(line);
  }

  const TrainSpec& spec_;
  const TrainJob& job_;
  const TrainWatch& watch_;
  const int64_t threads_;
  const RunLock lock_;
  const Checkpoints checkpoints_;
  Batches batches_;
  const StepInterval evaluations_, saves_;
  const std::vector<NamedTensor> all_;  // trainables, then auxiliary
  Optimizer optimizer_;
  std::vector<Tensor> leaves_;
  StepPlan held_out_;
  std::optional<RunLog> log_;

  RunState state_;
  StepSums sums_;                        // of the step begun
  std::optional<CheckpointName> saved_;  // the newest checkpoint, when nothing has happened since
  bool best_is_new_ = false;
  std::optional<Clock::time_point> retry_;  // of a save that failed
  const Clock::time_point session_ = Clock::now();
  double earlier_seconds_ = 0;
  int64_t told_batches_ = 0;  // the step of the last event about batches
  Clock::time_point next_batches_ = session_ + kTellBatches;
};

}  // namespace

TrainResult train(const TrainSpec& spec, const TrainJob& job, const TrainWatch& watch) {
  if (job.trainables.empty())
    throw RecipeError("adapter: nothing is trainable; choose adapter.kind lora, rslora, dora or full");
  std::set<std::string> names;
  for (const auto& trainable : all_of(job))
    if (!names.insert(trainable.name).second)
      throw std::logic_error("a trainable is listed twice: " + trainable.name);
  if (job.peers && (job.model.stream() || !job.model.device().is_cpu()))
    throw RecipeError(
        "retort-ranks trains models that are in memory, on the CPU; set model.schedule: tokens and "
        "device: cpu, or train with retort in one process");
  return_freed_memory();
  return Training(spec, job, watch).run();
}

void require_resumable(const TrainSpec& spec, const TrainJob& job) {
  if (!std::filesystem::is_directory(job.folder / "checkpoints")) return;
  const Checkpoints checkpoints(job.folder / "checkpoints");
  const auto found = checkpoints.newest([](const std::string&) {});  // resuming says what is damaged
  if (!found) return;
  const auto path = checkpoints.path(*found);
  const auto state = run_state(checkpoints.state(*found), (path / "state.json").string());
  const auto planned =
      spec.steps > 0 ? spec.steps
                     : Batches(job.samples, spec.batch, static_cast<uint64_t>(spec.seed)).steps(spec.epochs);
  const bool finished = state.result.steps >= planned || state.result.stopped_early,
             measured = job.held_out.empty() || state.evaluated == state.result.steps;
  require_alike(path, state.fingerprint, full_fingerprint(spec, job, usable_threads(spec.threads)),
                finished && measured, spec.checkpoint.resume_inexact);
}

void load_trained(const std::filesystem::path& folder, const std::vector<NamedTensor>& trainables) {
  load_leaves(folder / kTrainedFile, trainables);
}

}  // namespace retort
