// A run that was stopped or killed anywhere and started again ends with the bytes of one that was not.
#include <spawn.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/stop.h"
#include "train/checkpoint.h"
#include "train/fingerprint.h"
#include "train/rewritten.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

// Everything that draws, counts or remembers: dropout, noise, momentum, epochs with a short last step,
// evaluations, best.
TrainSpec resumable_spec() {
  auto spec = tiny_spec();
  spec.epochs = 4;  // 16 steps of 8, 8, 8 and 6 samples
  spec.neftune_alpha = 5;
  spec.schedule = {.kind = "cosine", .warmup_steps = 3};
  spec.evaluate = {.every = 3, .patience = 0, .keep_best = true};
  spec.checkpoint.every = 3;
  return spec;
}

struct Ended {
  std::string weights, metrics;
  bool operator==(const Ended&) const = default;
};

using Call = std::function<void(
    int64_t call, const Pass& pass)>;  // before the objective's call number `call` of a session, from 1

// One session: trains in `folder` until the end (true) or a stop.
bool session(const TrainSpec& spec, const std::filesystem::path& folder, const Call& before, Ended* ended,
             const TrainWatch& watch = {}) {
  TinyRun run(lora(4, 0.2));
  auto job = run.job(folder);
  std::atomic<int64_t> calls = 0;
  job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
    if (before) before(++calls, pass);
    return next_token_objective()(model, forest, pass);
  };
  try {
    const auto result = train(spec, job, watch);
    EXPECT_EQ(result.steps, result.planned);
  } catch (const Stopped&) {
    forget_stop();
    return false;
  }
  if (ended) *ended = {run.bytes(), read_text(folder / "metrics.jsonl")};
  return true;
}

const Ended& uninterrupted() {
  static const Ended reference = [] {
    const TemporaryFolder folder;
    Ended ended;
    session(resumable_spec(), folder / "run", {}, &ended);
    return ended;
  }();
  return reference;
}

void expect_same(const Ended& ended, const std::string& what) {
  EXPECT_TRUE(ended.weights == uninterrupted().weights) << what;
  EXPECT_EQ(ended.metrics, uninterrupted().metrics) << what;
}

}  // namespace

TEST(Resume, StopsAtTwentyRandomForestsChangeNoByte) {
  int stops = 0, inside_steps = 0;
  for (uint64_t seed = 0; stops < 20; ++seed) {
    const TemporaryFolder folder;
    Ended ended;
    std::string where;
    for (uint64_t part = 0;; ++part) {
      const auto at = 1 + static_cast<int64_t>(Draws(seed, "stop").below(part, 40));
      where += " " + std::to_string(at);
      if (session(
              resumable_spec(), folder / "run",
              [&](int64_t call, const Pass&) {
                if (call == at) request_stop();
              },
              &ended))
        break;
      ++stops;
      for (const auto& name : Checkpoints(folder / "run/checkpoints").list())
        inside_steps += name.forests > 0;
    }
    expect_same(ended, "stopped at forests" + where);
  }
  EXPECT_GT(inside_steps, 3);  // or the sums of a step begun were never saved
}

TEST(Resume, AStopAtEveryStepEdgeLosesNoStepAndNoEpoch) {
  const TemporaryFolder folder;
  Ended ended;
  std::vector<int64_t> steps;
  const TrainWatch watch{.on_step = [&](const StepRecord& record) {
    steps.push_back(record.step);
    request_stop();
  }};
  while (!session(resumable_spec(), folder / "run", {}, &ended, watch)) {}
  forget_stop();
  expect_same(ended, "stopped after every step");
  EXPECT_EQ(steps.size(), 16u);
  EXPECT_EQ(std::set<int64_t>(steps.begin(), steps.end()).size(), 16u);
}

TEST(Resume, AStopDuringAnEvaluationRepeatsTheEvaluation) {
  const TemporaryFolder folder;
  Ended ended;
  int stops = 0;
  for (int64_t wanted = 1;; ++wanted) {
    std::atomic<int64_t> evaluating = 0;
    if (session(
            resumable_spec(), folder / "run",
            [&](int64_t, const Pass& pass) {
              if (!pass.training && ++evaluating == wanted) request_stop();
            },
            &ended))
      break;
    ++stops;
  }
  EXPECT_GT(stops, 3);
  expect_same(ended, "stopped in evaluations");
}

// The child is this program again: a process that was forked with threads around cannot start new ones.
TEST(ResumeChild, TrainsUntilKilled) {
  const char* folder = std::getenv("RETORT_TEST_FOLDER");
  if (!folder) GTEST_SKIP() << "started by Resume.KilledAtRandomPlacesAndResumed";
  const auto kill_at = std::atoll(std::getenv("RETORT_TEST_KILL_AT"));
  auto spec = resumable_spec();
  if (const char* epochs = std::getenv("RETORT_TEST_EPOCHS")) {  // interrupted_saves.py wants it short
    spec.epochs = std::atoll(epochs);
    spec.checkpoint.every = 2;
  }
  Ended ended;
  session(
      spec, folder,
      [&](int64_t call, const Pass&) {
        if (call == kill_at) ::raise(SIGKILL);
      },
      &ended);
  std::ofstream(std::string(folder) + "/weights", std::ios::binary) << ended.weights;
}

TEST(Resume, KilledAtRandomPlacesAndResumed) {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  make_folder(run);
  int killed = 0, status = 0;
  for (uint64_t part = 0; part < 40; ++part) {
    const auto at = part < 8 ? 1 + Draws(1, "kill").below(part, 22) : 1000000;
    const auto folder_variable = "RETORT_TEST_FOLDER=" + run,
               kill_variable = "RETORT_TEST_KILL_AT=" + std::to_string(at);
    std::vector<char*> environment{const_cast<char*>(folder_variable.c_str()),
                                   const_cast<char*>(kill_variable.c_str())};
    for (char** each = environ; *each; ++each) environment.push_back(*each);
    environment.push_back(nullptr);
    const char* arguments[] = {"train_test", "--gtest_filter=ResumeChild.*", "--gtest_brief=1", nullptr};
    pid_t child = 0;
    ASSERT_EQ(::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, const_cast<char**>(arguments),
                            environment.data()),
              0);
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) break;
    ASSERT_EQ(WTERMSIG(status), SIGKILL);
    ++killed;
  }
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_GE(killed, 4);
  expect_same({read_text(run + "/weights"), read_text(run + "/metrics.jsonl")}, "killed");
}

TEST(Resume, AFinishedRunIsNotTrainedAgain) {
  const TemporaryFolder folder;
  Ended first, second;
  session(resumable_spec(), folder / "run", {}, &first);
  session(
      resumable_spec(), folder / "run",
      [](int64_t, const Pass&) { ADD_FAILURE() << "the objective was called"; }, &second);
  EXPECT_TRUE(first == second);
  expect_same(second, "finished twice");
}

// Each thing that is saved, left out or changed in turn: every one must show in the result, or the tests
// above prove nothing.
TEST(Resume, EveryPartOfTheStateMatters) {
  const TemporaryFolder folder;
  const auto stopped = std::filesystem::path(folder / "stopped");
  // Stops at forests until a checkpoint lies inside a step and an epoch, past warm-up and the first
  // evaluation.
  for (int64_t at = 41;; ++at) {
    std::filesystem::remove_all(stopped);
    ASSERT_FALSE(session(
        resumable_spec(), stopped,
        [&](int64_t call, const Pass&) {
          if (call == at) request_stop();
        },
        nullptr));
    const auto newest = Checkpoints(stopped / "checkpoints").list().at(0);
    int64_t taken = 0;
    rewrite_state(stopped / "checkpoints" / newest.folder(),
                  [&](Json& json) { taken = json.at("taken").get<int64_t>(); });
    if (newest.forests > 0 && newest.steps >= 4 && taken > 0) break;
  }
  const auto ends_equal = [&](const std::function<void(const std::filesystem::path&)>& change) {
    const auto copy = std::filesystem::path(folder / "copy");
    std::filesystem::remove_all(copy);
    std::filesystem::copy(stopped, copy, std::filesystem::copy_options::recursive);
    change(copy / "checkpoints" / Checkpoints(copy / "checkpoints").list().at(0).folder());
    Ended ended;
    EXPECT_TRUE(session(resumable_spec(), copy, {}, &ended));
    return ended == uninterrupted();
  };
  const auto state = [](const std::string& key, int64_t by) {
    return [=](const std::filesystem::path& checkpoint) {
      rewrite_state(checkpoint, [&](Json& json) { json[key] = json.at(key).get<int64_t>() + by; });
    };
  };
  EXPECT_TRUE(ends_equal([](const auto&) {}));
  EXPECT_TRUE(ends_equal([](const auto& checkpoint) { rewrite_state(checkpoint, [](Json&) {}); }));
  EXPECT_FALSE(ends_equal(state("taken", 1))) << "place in the epoch";
  EXPECT_FALSE(ends_equal(state("taken", -1))) << "place in the epoch";
  EXPECT_FALSE(ends_equal(state("epoch", 1))) << "epoch";
  EXPECT_FALSE(ends_equal(state("updates", -1))) << "bias correction";
  EXPECT_FALSE(ends_equal(state("steps", -1))) << "schedule and draws";
  EXPECT_FALSE(ends_equal(state("forests", 1))) << "forests of the step begun";
  EXPECT_FALSE(ends_equal([](const auto& checkpoint) {
    rewrite_state(checkpoint, [](Json& json) { json["weight"] = json["weight"].get<double>() + 1; });
  })) << "weight of the step begun";
  EXPECT_FALSE(ends_equal([](const auto& checkpoint) {
    rewrite_state(checkpoint, [](Json& json) { json["nats"] = json["nats"].get<double>() + 1; });
  })) << "loss of the step begun";
  EXPECT_FALSE(ends_equal([](const auto& checkpoint) { zero_tensors(checkpoint, "gradients.safetensors"); }))
      << "sums of the step begun";
  EXPECT_FALSE(ends_equal([](const auto& checkpoint) { zero_tensors(checkpoint, "optimizer.safetensors"); }))
      << "moments";
  EXPECT_FALSE(ends_equal([](const auto& checkpoint) {
    rewrite_state(checkpoint, [](Json& json) { json["best_loss"] = 0.0; });
  })) << "best loss so far";
}

// A section of a recipe is many lines; an error is one.
TEST(Differences, NameTheLinesThatDiffer) {
  const Fingerprint then = {{"adapter", "kind: lora\nrank: 4\nalpha: 8\n"}, {"seed", "7"}};
  const Fingerprint now = {{"adapter", "kind: lora\nrank: 2\nalpha: 8\n"}, {"seed", "7"}};
  EXPECT_EQ(differences(then, now), "adapter: rank: 4 then, rank: 2 now");
  EXPECT_EQ(differences(then, {{"adapter", "kind: lora\nrank: 4\n"}, {"seed", "8"}}),
            "adapter: alpha: 8 then, nothing else now; seed: 7 then, 8 now");
  EXPECT_EQ(differences(then, then), "");
}

TEST(Resume, AnythingThatChangesBytesIsRefusedOrRecorded) {
  const TemporaryFolder folder;
  const auto stopped = std::filesystem::path(folder / "stopped");
  ASSERT_FALSE(session(
      resumable_spec(), stopped,
      [](int64_t call, const Pass&) {
        if (call == 30) request_stop();
      },
      nullptr));
  TinyRun run(lora(4, 0.2));
  const auto refusal = [&](const TrainSpec& spec, const TrainJob& job) -> std::string {
    try {
      train(spec, job);
    } catch (const RecipeError& error) { return error.what(); }
    return "not refused";
  };
  auto spec = resumable_spec();
  spec.threads = 1;
  EXPECT_NE(refusal(spec, run.job(stopped)).find("train.threads: 2 then, 1 now"), std::string::npos)
      << refusal(spec, run.job(stopped));
  spec = resumable_spec();
  spec.optimizer.learning_rate *= 2;
  EXPECT_NE(refusal(spec, run.job(stopped)).find("train.optimizer.learning_rate: 0.01 then, 0.02 now"),
            std::string::npos);
  auto job = run.job(stopped);
  job.compute = at::kBFloat16;
  EXPECT_NE(refusal(resumable_spec(), job).find("compute: f32 then, bf16 now"), std::string::npos);
  auto other = run.job(stopped);
  other.fingerprint = {{"base model", "another"}};
  EXPECT_NE(refusal(resumable_spec(), other).find("base model: absent then, another now"), std::string::npos);
  run.samples[7].tokens[2] += 1;
  EXPECT_NE(refusal(resumable_spec(), run.job(stopped)).find("samples: "), std::string::npos);
  EXPECT_NE(refusal(resumable_spec(), run.job(stopped))
                .find("they keep what they learned from the samples of then, also from those that have been "
                      "removed since"),
            std::string::npos)
      << refusal(resumable_spec(), run.job(stopped));
  run.samples[7].tokens[2] -= 1;
  for (const auto* key :
       {"build", "cpu", "libtorch"}) {  // what no test can change, changed in what was saved
    const auto copy = std::filesystem::path(folder / "copy");
    std::filesystem::remove_all(copy);
    std::filesystem::copy(stopped, copy, std::filesystem::copy_options::recursive);
    const auto checkpoint = copy / "checkpoints" / Checkpoints(copy / "checkpoints").list().at(0).folder();
    rewrite_state(checkpoint, [&](Json& json) {
      for (auto& pair : json["fingerprint"])
        if (pair[0] == key) pair[1] = "other";
    });
    EXPECT_NE(refusal(resumable_spec(), run.job(copy)).find(std::string(key) + ": other then"),
              std::string::npos)
        << key;
  }

  spec = resumable_spec();
  spec.threads = 1;
  spec.checkpoint.resume_inexact = true;
  std::string notes;
  const auto result =
      train(spec, run.job(stopped), {.on_note = [&](const std::string& line) { notes += line + "\n"; }});
  EXPECT_TRUE(result.resumed_inexactly);
  EXPECT_EQ(result.steps, 16);
  EXPECT_NE(notes.find("continues inexactly: train.threads: 2 then, 1 now"), std::string::npos) << notes;
  EXPECT_TRUE(train(spec, run.job(stopped)).resumed_inexactly);  // and stays recorded

  // A run that is complete is complete on any machine; of another recipe it is not.
  spec.checkpoint.resume_inexact = false;
  spec.threads = 2;
  EXPECT_EQ(train(spec, run.job(stopped)).steps, 16);
  spec.epochs = 5;
  EXPECT_NE(refusal(spec, run.job(stopped)).find("train.epochs: 4 then, 5 now"), std::string::npos);

  // What ended cannot go on, exactly or not: the weights would be those of other samples. The same is said
  // before anything begins.
  spec = resumable_spec();
  spec.checkpoint.resume_inexact = true;
  run.samples[7].tokens[2] += 1;
  const auto refused = refusal(spec, run.job(stopped));
  EXPECT_NE(refused.find("this training ended, made otherwise (samples: "), std::string::npos) << refused;
  EXPECT_NE(refused.find("name a new folder (run.folder)"), std::string::npos) << refused;
  EXPECT_NE(refused.find("resume_inexact finds no step left to make"), std::string::npos) << refused;
  std::string before;
  try {
    require_resumable(spec, run.job(stopped));
  } catch (const RecipeError& error) { before = error.what(); }
  EXPECT_EQ(before, refused);
  run.samples[7].tokens[2] -= 1;
  require_resumable(resumable_spec(), run.job(stopped));
  require_resumable(spec, run.job(folder / "nothing is here"));
  EXPECT_FALSE(std::filesystem::exists(folder / "nothing is here"));
}

namespace {

TrainSpec cut_into(int64_t parts, int64_t threads) {
  auto spec = resumable_spec();
  spec.batch.parts = parts;
  spec.threads = threads;
  return spec;
}

Ended ended_by(const TrainSpec& spec) {
  const TemporaryFolder folder;
  Ended ended;
  EXPECT_TRUE(session(spec, folder / "run", {}, &ended));
  return ended;
}

// Whether a forest of this training had several threads inside its operations.
bool has_threads_inside(const TrainSpec& spec) {
  const TemporaryFolder folder;
  std::atomic<bool> several = false;
  EXPECT_TRUE(session(
      spec, folder / "run",
      [&](int64_t, const Pass&) {
        if (at::get_num_threads() > 1) several = true;
      },
      nullptr));
  return several;
}

}  // namespace

TEST(Parts, AnyNumberOfThreadsEndsWithTheSameBytes) {
  const auto one = ended_by(cut_into(4, 1));
  EXPECT_TRUE(ended_by(cut_into(4, 2)) == one);
  EXPECT_TRUE(ended_by(cut_into(4, 3)) == one);
  EXPECT_TRUE(ended_by(cut_into(4, 7)) == one);  // more than forests
  // Without them, or with others, it is another cut: or nothing was shown above.
  EXPECT_FALSE(ended_by(cut_into(0, 1)) == ended_by(cut_into(0, 2)));
  EXPECT_FALSE(ended_by(cut_into(1, 1)) == one);
  EXPECT_TRUE(ended_by(cut_into(2, 1)) == uninterrupted());  // which is of two threads
}

// Several of them would change the last bits of some operations (attention's gradient, say).
TEST(Parts, NoForestHasThreadsInside) {
  auto spec = cut_into(0, 5);
  spec.batch.samples = 2;
  spec.epochs = 1;
  EXPECT_TRUE(has_threads_inside(spec));
  spec.batch.parts = 2;
  EXPECT_FALSE(has_threads_inside(spec));
}

TEST(Parts, ACheckpointOfTwoThreadsGoesOnWithOne) {
  const TemporaryFolder folder;
  ASSERT_FALSE(session(
      cut_into(4, 2), folder / "run",
      [](int64_t call, const Pass&) {
        if (call == 30) request_stop();
      },
      nullptr));
  const auto refusal = [&](const TrainSpec& spec) -> std::string {
    try {
      TinyRun run(lora(4, 0.2));
      train(spec, run.job(folder / "run"));
    } catch (const RecipeError& error) { return error.what(); }
    return "not refused";
  };
  const auto other = refusal(cut_into(2, 2)), without = refusal(cut_into(0, 2));
  EXPECT_NE(other.find("train.batch.parts: 4 then, 2 now"), std::string::npos) << other;
  EXPECT_NE(without.find("train.batch.parts: 4 then, absent now"), std::string::npos) << without;
  EXPECT_NE(without.find("train.threads: absent then, 2 now"), std::string::npos) << without;
  Ended resumed;
  ASSERT_TRUE(session(cut_into(4, 1), folder / "run", {}, &resumed));
  EXPECT_TRUE(resumed == ended_by(cut_into(4, 3)));
}

}  // namespace retort
