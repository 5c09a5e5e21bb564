// A step of a model in its file that was killed goes on in the layer that it was in, reads none of those
// again that it had left, and ends with the same bits.
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/stop.h"
#include "schedule/counted_stream.h"  // tests/schedule
#include "schedule/walk_record.h"
#include "train/step.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

namespace fs = std::filesystem;
using Layers = std::vector<int64_t>;

AdapterSpec adapter_on(const std::string& targets) {
  auto spec = lora(4, 0.1);
  spec.targets = {targets == "attention" ? "q_proj" : "all"};
  if (targets == "attention") spec.targets.push_back("o_proj");
  return spec;
}

// The layers that are read, each time that another one comes; without a thread that reads ahead, there is one
// at a time.
class ReadLayers {
 public:
  std::function<void()> fail;  // at each reading from number fail_at on
  int64_t fail_at = 0;

  void hear(int64_t layer) {
    const std::lock_guard lock(mutex_);
    if (layers_.empty() || layers_.back() != layer) {
      layers_.push_back(layer);
      if (told) told(layer);
    }
    if (++reads_ >= fail_at && fail_at > 0) fail();
  }
  std::pair<Layers, int64_t> take() {
    const std::lock_guard lock(mutex_);
    return {std::exchange(layers_, {}), std::exchange(reads_, 0)};
  }
  std::function<void(int64_t layer)> told;

 private:
  std::mutex mutex_;
  Layers layers_;
  int64_t reads_ = 0;
};

struct InFile {
  InFile(const AdapterSpec& adapter, const std::string& family, const std::string& scratch,
         const std::string& holds = "states")
      : run(adapter, family, in_file(scratch, holds)),
        resident(load_weights({.path = golden_folder("models/" + family).string()})) {
    move_b(run);
    hear_reads(*run.loaded.model, *resident.model, 1,
               [this](const TensorPlace& place) { read.hear(place.layer); });
  }
  static ModelSpec in_file(const std::string& scratch, const std::string& holds) {
    ModelSpec spec;
    spec.schedule = "layers", spec.memory = "1MiB", spec.scratch = scratch, spec.scratch_holds = holds;
    return spec;
  }

  StepSums step(const StepPlan& plan, int64_t threads, WalkRecord* record) {
    std::vector<Tensor> leaves;
    for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor);
    const auto make = [](const Forest& forest, int64_t index) {
      auto pass = make_pass(forest, at::kFloat);
      pass.training = true;
      pass.dropout_key = static_cast<uint64_t>(100 + index);
      return pass;
    };
    StepSums sums;
    if (!add_gradients({*run.loaded.model, next_token_objective(), plan, make, threads, record}, leaves,
                       sums))
      throw Stopped("the step was stopped");
    return sums;
  }

  ReadLayers read;  // outlives the model's stream
  TinyRun run;
  LoadedModel resident;
};

void expect_equal(const StepSums& want, const StepSums& found, const std::string& where) {
  EXPECT_EQ(want.nats, found.nats) << where;
  EXPECT_EQ(want.weight, found.weight) << where;
  EXPECT_EQ(want.forests, found.forests) << where;
  ASSERT_EQ(want.gradients.size(), found.gradients.size()) << where;
  for (size_t i = 0; i < want.gradients.size(); ++i) {
    ASSERT_EQ(want.gradients[i].defined(), found.gradients[i].defined()) << where << " leaf " << i;
    if (want.gradients[i].defined()) {
      EXPECT_TRUE(at::equal(want.gradients[i], found.gradients[i])) << where << " leaf " << i;
    }
  }
}

const WalkName kName{"a training", 3, "samples and weights"};

}  // namespace

class KilledStep : public testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {};

TEST_P(KilledStep, GoesOnInItsLayer) {
  const auto [family, targets, holds] = GetParam();
  for (const int64_t threads : {1, 2}) {
    const TemporaryFolder folder;
    const auto scratch = folder / "scratch";
    InFile one(adapter_on(targets), family, scratch, holds);
    const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 2);
    ASSERT_GT(plan.forests.size(), 2u);
    const auto want = one.step(plan, threads, nullptr);
    const auto [all, reads] = one.read.take();
    const auto layers = one.run.loaded.model->config.layers;
    ASSERT_EQ(static_cast<int64_t>(all.size()), 2 * layers - 1);  // up, and down again
    {
      WalkRecord record(scratch, kName);
      expect_equal(want, one.step(plan, threads, &record), "undisturbed");
      record.remove();
      one.read.take();
    }
    int64_t killed = 0;
    for (int64_t at = 1; at <= reads; at += std::max<int64_t>(1, reads / 9)) {
      size_t reached = 0;
      {
        WalkRecord record(scratch, kName);
        one.read.fail = [] { throw Failure("the disk is gone"); };
        one.read.fail_at = at;
        bool failed = false;
        try {
          one.step(plan, threads, &record);
        } catch (const Failure&) { failed = true; }
        one.read.fail_at = 0;
        reached = one.read.take().first.size();
        if (!failed) {  // two threads read what another has thrown out more or less often
          record.remove();
          continue;
        }
      }
      ++killed;
      WalkRecord record(scratch, kName);
      const auto where = fmt::format("{} {} killed at reading {} of {}", family, targets, at, reads);
      expect_equal(want, one.step(plan, threads, &record), where);
      const Layers rest(all.begin() + static_cast<std::ptrdiff_t>(reached) - 1, all.end());
      EXPECT_EQ(one.read.take().first, rest) << where;
      record.remove();
      EXPECT_TRUE(fs::is_empty(scratch)) << where;
    }
    EXPECT_GE(killed, 5);
  }
}
INSTANTIATE_TEST_SUITE_P(Families, KilledStep,
                         testing::Values(std::tuple("llama", "all", "states"),
                                         std::tuple("llama", "all", "activations"),
                                         std::tuple("gemma3", "attention", "states"),
                                         std::tuple("gemma3", "attention", "activations"),
                                         std::tuple("qwen3_moe", "all", "states"),
                                         std::tuple("mixtral", "attention", "states"),
                                         std::tuple("deepseek_v32", "all", "states"),
                                         std::tuple("deepseek_v32", "all", "activations"),
                                         std::tuple("deepseek_v32_sparse", "all", "states")),
                         [](const auto& each) {
                           return fmt::format("{}_{}_{}", std::get<0>(each.param), std::get<1>(each.param),
                                              std::get<2>(each.param));
                         });

// A stop is a kill in the middle of a layer, too: nothing of the step is in the sums, what was done in the
// folder.
TEST(StoppedStep, GoesOnInItsLayer) {
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  InFile one(adapter_on("all"), "qwen3_moe", scratch);
  const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 1);
  const auto want = one.step(plan, 1, nullptr);
  const auto taken = one.read.take();
  size_t reached = 0;
  {
    WalkRecord record(scratch, kName);
    one.read.fail = [] { request_stop(); };
    one.read.fail_at = taken.second * 3 / 4;
    EXPECT_THROW(one.step(plan, 1, &record), Stopped);
    forget_stop();
    one.read.fail_at = 0;
    reached = one.read.take().first.size();
  }
  WalkRecord record(scratch, kName);
  expect_equal(want, one.step(plan, 1, &record), "stopped");
  const auto found = one.read.take().first;
  const auto from = [&](size_t begin) {
    return Layers(taken.first.begin() + static_cast<std::ptrdiff_t>(begin), taken.first.end());
  };
  EXPECT_TRUE(found == from(reached - 1) || found == from(reached)) << reached;  // its last text had left it
}

TEST(WalkRecord, OfOtherWeightsOrDamagedIsNotGoneOnWith) {
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  InFile one(adapter_on("all"), "deepseek_v32", scratch);
  const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 1);
  const auto want = one.step(plan, 1, nullptr);
  const auto taken = one.read.take();
  const auto& all = taken.first;
  const auto reads = taken.second;
  const auto kill = [&] {  // in the first layer, on the way back
    WalkRecord record(scratch, kName);
    one.read.fail = [] { throw Failure("the disk is gone"); };
    one.read.fail_at = reads - 1;
    EXPECT_THROW(one.step(plan, 1, &record), Failure);
    one.read.fail_at = 0;
    EXPECT_EQ(one.read.take().first, all);
  };
  const auto go_on = [&](const WalkName& name, const Layers& layers, const std::string& what) {
    WalkRecord record(scratch, name);
    expect_equal(want, one.step(plan, 1, &record), what);
    EXPECT_EQ(one.read.take().first, layers) << what;
    record.remove();
  };
  kill();
  go_on(kName, {0}, "the same");
  kill();
  go_on({kName.training, kName.step, "other weights"}, all, "other weights");
  kill();
  const auto file = fs::directory_iterator(scratch)->path();
  {  // the gradients of the last layer, which end the file
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(-4096, std::ios::end);
    for (int i = 0; i < 4096; ++i) bytes.put('x');
  }
  const auto layers = one.run.loaded.model->config.layers;
  go_on(kName, Layers(all.begin() + layers - 1, all.end()), "damaged gradients");
  kill();
  {  // what is kept of the texts begins behind the first pages, which say what is there
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(64 * 4096);
    for (int i = 0; i < 4096; ++i) bytes.put('x');
  }
  WalkRecord record(scratch, kName);
  expect_equal(want, one.step(plan, 1, &record), "damaged states");
}

// A training that goes on from a checkpoint makes steps again before it comes to the one that was killed.
TEST(WalkRecord, StaysUntilItsStepIsMade) {
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(scratch)) all.push_back(entry.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
  };
  { const WalkRecord killed(scratch, {"one", 7, ""}); }
  const auto killed = names();
  ASSERT_EQ(killed.size(), 1u);
  folder.write("scratch/thesis.bin", "a user's");
  {
    const WalkRecord before(scratch, {"one", 6, ""});
    EXPECT_EQ(names().size(), 3u);
    EXPECT_THROW(WalkRecord(scratch, {"one", 6, ""}), Failure);  // one process at a time
  }
  {
    const WalkRecord there(scratch, {"one", 7, ""});
    EXPECT_EQ(names(), (std::vector<std::string>{killed[0], "thesis.bin"}));
    const WalkRecord other(scratch, {"another", 1, ""});  // another's that is at work stays
    EXPECT_EQ(names().size(), 3u);
  }
  const WalkRecord third(scratch, {"a third", 1, ""});
  EXPECT_EQ(names().size(), 2u);
}

namespace {

// What processes have read, one after the other: a line each.
std::vector<Layers> processes(const std::string& file) {
  std::vector<Layers> all;
  std::istringstream lines(read_text(file));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    all.emplace_back();
    for (int64_t layer = 0; numbers >> layer;) all.back().push_back(layer);
  }
  return all;
}

struct Killed {
  std::string weights;
  std::vector<Layers> read;
  int64_t readings = 0;  // of the last process
  int kills = 0;
};

// Processes that each are killed at a reading, until one ends the training.
Killed train_killed(const std::string& family, const std::string& folder, const std::vector<int64_t>& at) {
  make_folder(folder);
  Killed killed;
  for (size_t part = 0; part < 20; ++part) {
    const std::vector<std::string> variables = {
        "RETORT_TEST_STEP_FOLDER=" + folder, "RETORT_TEST_STEP_FAMILY=" + family,
        "RETORT_TEST_STEP_KILL=" + std::to_string(part < at.size() ? at[part] : 0)};
    std::vector<char*> environment;
    for (const auto& variable : variables) environment.push_back(const_cast<char*>(variable.c_str()));
    for (char** each = environ; *each; ++each) environment.push_back(*each);
    environment.push_back(nullptr);
    const char* arguments[] = {"train_test", "--gtest_filter=KilledStepChild.*", "--gtest_brief=1", nullptr};
    pid_t child = 0;
    int status = 0;
    EXPECT_EQ(::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, const_cast<char**>(arguments),
                            environment.data()),
              0);
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      break;
    }
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
    ++killed.kills;
  }
  killed.weights = read_text(folder + "/weights");
  killed.read = processes(folder + "/layers");
  killed.readings = std::atoll(read_text(folder + "/readings").c_str());
  return killed;
}

}  // namespace

// The child is this program again.
TEST(KilledStepChild, TrainsUntilKilled) {
  const char* folder = std::getenv("RETORT_TEST_STEP_FOLDER");
  if (!folder) GTEST_SKIP() << "started by KilledTraining.GoesOnInTheLayerOfItsStep";
  const std::string at = folder;
  std::ofstream told(at + "/layers", std::ios::app);
  InFile one(adapter_on("all"), std::getenv("RETORT_TEST_STEP_FAMILY"), at + "/scratch");
  one.read.told = [&](int64_t layer) { told << layer << ' ' << std::flush; };
  one.read.fail = [&] {
    told << std::endl;
    ::raise(SIGKILL);
  };
  one.read.fail_at = std::atoll(std::getenv("RETORT_TEST_STEP_KILL"));
  auto spec = tiny_spec();
  spec.steps = 2;
  spec.threads = 1;
  spec.checkpoint.every = 1;
  one.run.held_out.clear();
  EXPECT_EQ(train(spec, one.run.job(at + "/run")).steps, 2);
  told << std::endl;
  std::ofstream(at + "/readings") << one.read.take().second;
  std::ofstream(at + "/weights", std::ios::binary) << one.run.bytes();
  EXPECT_TRUE(fs::is_empty(at + "/scratch"));
}

TEST(KilledTraining, GoesOnInTheLayerOfItsStep) {
  for (const auto* family : {"llama", "qwen3_moe"}) {
    const TemporaryFolder folder;
    const auto whole = train_killed(family, folder / "whole", {});
    ASSERT_EQ(whole.read.size(), 1u);
    const auto step = whole.readings / 2;
    // Forward; some readings later, backward; in the second step.
    const auto killed = train_killed(family, folder / "killed", {step / 4, step / 2, step / 2, step / 2});
    EXPECT_EQ(killed.kills, 4) << family;
    EXPECT_EQ(killed.weights, whole.weights) << family;
    ASSERT_EQ(killed.read.size(), 5u) << family;
    auto all = killed.read[0];
    for (size_t i = 1; i < killed.read.size(); ++i) {
      ASSERT_FALSE(killed.read[i].empty()) << family;
      EXPECT_EQ(killed.read[i].front(), killed.read[i - 1].back()) << family << " process " << i;
      all.insert(all.end(), killed.read[i].begin() + 1, killed.read[i].end());
    }
    EXPECT_EQ(all, whole.read[0]) << family;
  }
}

}  // namespace retort
