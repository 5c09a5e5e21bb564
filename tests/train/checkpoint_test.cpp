// What a disk, a clumsy hand or a bad number may do to a run.
#include "train/checkpoint.h"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <thread>

#include "base/error.h"
#include "base/stop.h"
#include "formats/weight_file.h"
#include "report/metrics.h"
#include "train/rewritten.h"
#include "train/run_lock.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

TrainSpec saving_spec() {
  auto spec = tiny_spec();
  spec.epochs = 3;  // 12 steps
  spec.checkpoint.every = 2;
  return spec;
}

std::string folders(const std::filesystem::path& run) {
  std::string all;
  for (const auto& name : Checkpoints(run / "checkpoints").list())
    all += (all.empty() ? "" : " ") + name.folder();
  return all;
}

// Runs until `step` is done and stops there, saved.
void train_to(int64_t step, const TrainSpec& spec, TinyRun& run, const std::filesystem::path& folder) {
  EXPECT_THROW(train(spec, run.job(folder),
                     {.on_step =
                          [&](const StepRecord& record) {
                            if (record.step == step) request_stop();
                          }}),
               Stopped);
  forget_stop();
}

// No file of this process may grow beyond `limit` bytes: a full disk that any test can have.
class SmallDisk {
 public:
  SmallDisk() : handler_(std::signal(SIGXFSZ, SIG_IGN)) { ::getrlimit(RLIMIT_FSIZE, &before_); }
  ~SmallDisk() {
    lift();
    std::signal(SIGXFSZ, handler_);
  }
  void fill(rlim_t limit) const {
    const rlimit small{limit, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  void lift() const { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

struct Reference {
  std::string weights, metrics;
};
const Reference& reference() {
  static const Reference made = [] {
    const TemporaryFolder folder;
    TinyRun run;
    train(saving_spec(), run.job(folder / "run"));
    return Reference{run.bytes(), read_text(folder / "run/metrics.jsonl")};
  }();
  return made;
}

}  // namespace

TEST(Checkpoint, NamesAreReadBackAndOtherFoldersAreNotOurs) {
  for (const CheckpointName name : {CheckpointName{0, 0}, {100, 0}, {123456789, 0}, {7, 3}})
    EXPECT_EQ(CheckpointName::from_folder(name.folder()), name);
  EXPECT_EQ((CheckpointName{100, 0}.folder()), "step-00000100");
  EXPECT_EQ((CheckpointName{7, 3}.folder()), "step-00000007.3");
  for (const auto* other : {"step-", "step-7", "step-00000007.0", "step-00000007.", "step-0000000x",
                            "step-00000007.3.part", "best", "step-99999999999999999999"})
    EXPECT_FALSE(CheckpointName::from_folder(other)) << other;
}

TEST(Checkpoint, TheLastOnesAndTheBestAreKept) {
  const TemporaryFolder folder;
  TinyRun run;
  auto spec = saving_spec();
  train(spec, run.job(folder / "plain"));
  EXPECT_EQ(folders(folder / "plain"), "step-00000012 step-00000010");

  spec.evaluate = {.every = 1, .patience = 0, .keep_best = true};
  spec.optimizer.learning_rate = 0.02;  // learns its samples by heart: the held-out loss rises soon
  spec.schedule.kind = "constant";
  spec.epochs = 10;
  TinyRun second;
  std::vector<std::pair<int64_t, double>> losses;
  const auto result =
      train(spec, second.job(folder / "best"),
            {.on_evaluation = [&](int64_t step, double loss) { losses.emplace_back(step, loss); }});
  const auto best = *std::min_element(losses.begin(), losses.end(),
                                      [](const auto& a, const auto& b) { return a.second < b.second; });
  ASSERT_LT(best.first, 30) << "the test needs a run whose best is not its end";
  EXPECT_EQ(result.best_step, best.first);
  EXPECT_EQ(result.held_out_after, best.second);
  EXPECT_EQ(folders(folder / "best"),
            ("step-00000040 step-00000038 " + CheckpointName{best.first, 0}.folder()));

  // The weights that are left are those of the best step: their held-out loss is its loss.
  auto again = tiny_spec();
  again.steps = 1;
  again.evaluate.every = 1;
  EXPECT_EQ(train(again, second.job(folder / "again")).held_out_before, best.second);
}

TEST(Checkpoint, StopsAfterSomeEvaluationsWithoutANewBest) {
  const TemporaryFolder folder;
  TinyRun run;
  auto spec = saving_spec();
  spec.evaluate = {.every = 2, .patience = 3, .keep_best = false};
  spec.optimizer.learning_rate = 0.3;
  spec.schedule.kind = "constant";
  spec.epochs = 50;
  const auto result = train(spec, run.job(folder / "run"));
  EXPECT_TRUE(result.stopped_early);
  EXPECT_EQ(result.steps, *result.best_step + 6);
  TinyRun same;
  const auto again = train(spec, same.job(folder / "run"));  // an early end is an end
  EXPECT_EQ(again.steps, result.steps);
  EXPECT_EQ(same.bytes(), run.bytes());
}

// Bit rot in any file: the one before is taken, the note says so, and the end is the same.
TEST(Checkpoint, ADamagedOneIsNamedAndTheOneBeforeTaken) {
  const TemporaryFolder folder;
  const auto stopped = std::filesystem::path(folder / "stopped");
  TinyRun first;
  train_to(7, saving_spec(), first, stopped);
  ASSERT_EQ(folders(stopped), "step-00000007 step-00000006");
  const auto in_newest = [&](const std::string& file) {
    return std::filesystem::path("checkpoints/step-00000007") / file;
  };
  struct Damage {
    std::string name;
    std::function<void(const std::filesystem::path& run)> apply;
  };
  std::vector<Damage> damages;
  for (const auto* file : {"weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}) {
    damages.push_back({std::string("first byte of ") + file,
                       [=](const auto& run) { flip_byte(run / in_newest(file), 0); }});
    damages.push_back({std::string("a byte inside ") + file,
                       [=](const auto& run) { flip_byte(run / in_newest(file), 5000); }});
    damages.push_back({std::string("no ") + file,
                       [=](const auto& run) { std::filesystem::remove(run / in_newest(file)); }});
    damages.push_back({std::string("half of ") + file,
                       [=](const auto& run) { std::filesystem::resize_file(run / in_newest(file), 100); }});
  }
  for (const auto& damage : damages) {
    const auto copy = std::filesystem::path(folder / "copy");
    std::filesystem::remove_all(copy);
    std::filesystem::copy(stopped, copy, std::filesystem::copy_options::recursive);
    damage.apply(copy);
    TinyRun run;
    std::string notes;
    int64_t continued_from = -1;
    train(saving_spec(), run.job(copy),
          {.on_start = [&](int64_t done, int64_t) { continued_from = done; },
           .on_note = [&](const std::string& line) { notes += line; }});
    EXPECT_EQ(continued_from, 6) << damage.name;
    EXPECT_NE(notes.find("step-00000007 is damaged"), std::string::npos) << damage.name << ": " << notes;
    EXPECT_TRUE(run.bytes() == reference().weights) << damage.name;
    EXPECT_EQ(read_text(copy / "metrics.jsonl"), reference().metrics) << damage.name;
  }
}

TEST(Checkpoint, WhatAKilledSaveLeftIsIgnoredAndRemoved) {
  const TemporaryFolder folder;
  TinyRun first;
  train_to(7, saving_spec(), first, folder / "run");
  const auto checkpoints = std::filesystem::path(folder / "run/checkpoints");
  std::filesystem::copy(checkpoints / "step-00000007", checkpoints / ".saving-step-00000008");
  std::filesystem::remove(checkpoints / ".saving-step-00000008/manifest.json");
  TinyRun run;
  train(saving_spec(), run.job(folder / "run"));
  EXPECT_FALSE(std::filesystem::exists(checkpoints / ".saving-step-00000008"));
  EXPECT_TRUE(run.bytes() == reference().weights);
}

TEST(Checkpoint, AFullDiskStopsNeitherTrainingNorTheOldCheckpoints) {
  const TemporaryFolder folder;
  TinyRun run;
  const SmallDisk disk;
  auto spec = saving_spec();
  spec.checkpoint.keep_last = 1;
  std::string notes, while_full;
  const TrainWatch watch{.on_step =
                             [&](const StepRecord& record) {
                               if (record.step == 3) disk.fill(200);  // not even a row of metrics
                               if (record.step == 7) {
                                 while_full = folders(folder / "run");
                                 disk.lift();
                               }
                             },
                         .on_note = [&](const std::string& line) { notes += line + "\n"; }};
  train(spec, run.job(folder / "run"), watch);
  EXPECT_NE(notes.find("not saved at step 4, training goes on"), std::string::npos) << notes;
  EXPECT_NE(notes.find("not saved at step 6, training goes on"), std::string::npos) << notes;
  EXPECT_NE(notes.find("metrics wait in memory"), std::string::npos) << notes;
  EXPECT_EQ(while_full, "step-00000002");  // keep_last = 1 does not remove it before a new one is whole
  EXPECT_EQ(folders(folder / "run"), "step-00000012");
  EXPECT_TRUE(run.bytes() == reference().weights);
  EXPECT_EQ(read_text(folder / "run/metrics.jsonl"), reference().metrics);
}

TEST(Checkpoint, TheLastSaveWaitsForRoom) {
  const TemporaryFolder folder;
  TinyRun run;
  const SmallDisk disk;
  std::thread room;
  const TrainWatch watch{
      .on_step =
          [&](const StepRecord& record) {
            if (record.step == 11) disk.fill(200);
          },
      .on_note =
          [&](const std::string& line) {
            if (line.find("the result is not saved yet") == std::string::npos || room.joinable()) return;
            room = std::thread([&] {
              std::this_thread::sleep_for(std::chrono::milliseconds(100));
              disk.lift();
            });
          }};
  train(saving_spec(), run.job(folder / "run"), watch);
  ASSERT_TRUE(room.joinable());
  room.join();
  EXPECT_TRUE(run.bytes() == reference().weights);
  EXPECT_EQ(read_text(folder / "run/metrics.jsonl"), reference().metrics);
  TinyRun loaded;
  load_trained(folder / "run", loaded.leaves);
  EXPECT_TRUE(loaded.bytes() == reference().weights);
}

// A folder that was renamed does not come back by itself: waiting for it would be for ever.
TEST(Checkpoint, TheLastSaveDoesNotWaitForAFolderThatIsGone) {
  const TemporaryFolder folder;
  TinyRun run;
  std::string notes, said;
  const TrainWatch watch{.on_step =
                             [&](const StepRecord& record) {
                               if (record.step == 11)
                                 std::filesystem::rename(folder / "run", folder / "elsewhere");
                             },
                         .on_note = [&](const std::string& line) { notes += line + "\n"; }};
  try {
    train(saving_spec(), run.job(folder / "run"), watch);
  } catch (const Failure& failure) { said = failure.what(); }
  EXPECT_NE(said.find("run/"), std::string::npos) << said;
  EXPECT_NE(said.find("No such file or directory"), std::string::npos) << said;
  EXPECT_NE(notes.find("the result is not saved yet: "), std::string::npos) << notes;
  EXPECT_NE(notes.find(", for 10 s at most"), std::string::npos) << notes;
  std::filesystem::remove_all(folder / "run");
  TinyRun again;  // from where it is now, it goes on
  train(saving_spec(), again.job(folder / "elsewhere"));
  EXPECT_TRUE(again.bytes() == reference().weights);
}

TEST(Checkpoint, AStopOnAFullDiskIsAFailureNotAPromise) {
  const TemporaryFolder folder;
  TinyRun run;
  const SmallDisk disk;
  EXPECT_THROW(train(saving_spec(), run.job(folder / "run"),
                     {.on_step =
                          [&](const StepRecord& record) {
                            if (record.step != 5) return;
                            disk.fill(200);
                            request_stop();
                          }}),
               Failure);
  forget_stop();
  disk.lift();
  EXPECT_EQ(folders(folder / "run"), "step-00000004 step-00000002");
  TinyRun again;
  train(saving_spec(), again.job(folder / "run"));
  EXPECT_TRUE(again.bytes() == reference().weights);
}

TEST(Checkpoint, OneProcessTrainsInAFolder) {
  const TemporaryFolder folder;
  TinyRun run, other;
  std::string refusal;
  auto spec = saving_spec();
  train(spec, run.job(folder / "run"), {.on_step = [&](const StepRecord& record) {
          if (record.step != 2) return;
          try {
            train(spec, other.job(folder / "run"));
          } catch (const RecipeError& error) { refusal = error.what(); }
        }});
  EXPECT_NE(refusal.find("process " + std::to_string(::getpid())), std::string::npos) << refusal;
  EXPECT_TRUE(run.bytes() == reference().weights);
  const RunLock free(folder / "run");  // the file is left behind, the lock is not
}

TEST(BadNumbers, AStepThatIsNotFiniteIsSkippedAndNamed) {
  for (const double bad : {NAN, INFINITY}) {
    const TemporaryFolder folder;
    TinyRun run;
    std::string before, after, notes;
    std::vector<StepRecord> records;
    int64_t step = 1;
    auto job = run.job(folder / "run");
    job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
      auto loss = next_token_objective()(model, forest, pass);
      if (step == 3 && pass.training) loss.nats = loss.nats * bad;
      return loss;
    };
    const TrainWatch watch{.on_step =
                               [&](const StepRecord& record) {
                                 records.push_back(record);
                                 step = record.step + 1;
                                 if (record.step == 2) before = run.bytes();
                                 if (record.step == 3) after = run.bytes();
                               },
                           .on_note = [&](const std::string& line) { notes += line + "\n"; }};
    const auto result = train(tiny_spec(), job, watch);
    EXPECT_EQ(result.skipped, 1);
    EXPECT_EQ(result.steps, 4);
    ASSERT_EQ(records.size(), 4u);
    EXPECT_TRUE(records[2].skipped);
    EXPECT_FALSE(records[3].skipped);
    EXPECT_TRUE(std::isfinite(records[3].loss));
    EXPECT_NE(run.bytes(), before);
    EXPECT_TRUE(before == after);
    for (const auto& leaf : run.leaves) EXPECT_TRUE(at::isfinite(*leaf.tensor).all().item<bool>());
    EXPECT_NE(notes.find("step 3 is skipped: its loss is not finite (samples made-up:"), std::string::npos)
        << notes;
  }
}

// One bad element of one gradient makes the norm NaN, and clipping by it would make every weight NaN.
TEST(BadNumbers, OneElementOfOneGradientIsSeenBeforeTheUpdate) {
  const TemporaryFolder folder;
  TinyRun run;
  auto job = run.job(folder / "run");
  std::atomic<int> calls = 0;
  job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
    auto loss = next_token_objective()(model, forest, pass);
    // An element times zero leaves the loss as it is; its gradient is infinite at 0: sqrt'(0) = inf, inf * 0
    // = NaN.
    if (pass.training && ++calls == 1)
      loss.nats = loss.nats + 0 * (run.leaves[1].tensor->flatten()[0] * 0).sqrt();
    return loss;
  };
  const auto result = train(tiny_spec(), job);
  EXPECT_EQ(result.skipped, 1);
  for (const auto& leaf : run.leaves) EXPECT_TRUE(at::isfinite(*leaf.tensor).all().item<bool>()) << leaf.name;
}

TEST(BadNumbers, GivesUpAfterSoManyInARowAndKeepsWhatWasFinite) {
  const TemporaryFolder folder;
  TinyRun run;
  auto spec = saving_spec();
  spec.bad_steps = 5;
  spec.checkpoint.every = 1;
  spec.checkpoint.keep_last = 2;
  int64_t step = 1;
  auto job = run.job(folder / "run");
  job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
    auto loss = next_token_objective()(model, forest, pass);
    if (step == 2 || step > 4) loss.nats = loss.nats * NAN;
    return loss;
  };
  int64_t last = 0;
  try {
    train(spec, job, {.on_step = [&](const StepRecord& record) { step = (last = record.step) + 1; }});
    FAIL() << "went on";
  } catch (const Failure& failure) {
    EXPECT_NE(std::string(failure.what()).find("5 steps in a row were not finite"), std::string::npos)
        << failure.what();
  }
  EXPECT_EQ(last, 9);  // 5, 6, 7, 8, 9; the bad step 2 was followed by good ones
  const Checkpoints checkpoints(std::filesystem::path(folder / "run") / "checkpoints");
  ASSERT_EQ(checkpoints.list().size(), 2u);
  for (const auto& name : checkpoints.list()) {
    for (const auto& tensor : open_safetensors(checkpoints.path(name) / "weights.safetensors").tensors)
      for (int64_t i = 0; i < tensor.elements(); ++i) {
        float value = 0;
        std::memcpy(&value, tensor.data.data() + 4 * i, 4);
        ASSERT_TRUE(std::isfinite(value)) << name.folder() << " " << tensor.name;
      }
  }
}

// Fewer steps than may be bad in a row: nothing was learned, and the run must not end as if it had.
TEST(BadNumbers, ATrainingWithoutOneGoodStepFails) {
  const TemporaryFolder folder;
  TinyRun run;
  auto spec = tiny_spec();
  spec.steps = 3;
  auto job = run.job(folder / "run");
  job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
    auto loss = next_token_objective()(model, forest, pass);
    if (pass.training) loss.nats = loss.nats * NAN;
    return loss;
  };
  for (int time = 0; time < 2; ++time) {  // the second goes on from the end of the first
    try {
      train(spec, job);
      FAIL() << "ended well";
    } catch (const Failure& failure) {
      EXPECT_NE(std::string(failure.what()).find("all 3 steps of the training were skipped"),
                std::string::npos)
          << failure.what();
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "run/trained.safetensors"));
}

TEST(BadNumbers, AStepWithoutTargetsIsSkippedAndCounted) {
  const TemporaryFolder folder;
  TinyRun run;
  run.samples[4].weights.assign(run.samples[4].weights.size(), 0);
  auto job = run.job(folder / "run");
  int64_t step = 1;
  job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
    if (step == 2 && pass.training) return LossSum{};  // an objective that counts nothing here
    return next_token_objective()(model, forest, pass);
  };
  std::string notes;
  const auto result = train(tiny_spec(), job,
                            {.on_step = [&](const StepRecord& record) { step = record.step + 1; },
                             .on_note = [&](const std::string& line) { notes += line + "\n"; }});
  EXPECT_EQ(result.skipped, 1);
  EXPECT_EQ(result.steps, result.planned);
  EXPECT_NE(
      notes.find("1 of 30 training samples have no token that is learned and are left out; the first is "
                 "made-up:5"),
      std::string::npos)
      << notes;
  EXPECT_NE(notes.find("step 2 is skipped: nothing in it is learned"), std::string::npos) << notes;
}

}  // namespace retort
