#include "run/replay.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/ordered_work.h"  // usable_threads()
#include "base/scratch_folder.h"
#include "data/record_list.h"
#include "report/progress.h"
#include "run/open_teacher.h"
#include "run/replay_record.h"
#include "run/stage_train.h"
#include "train/checkpoint.h"
#include "train/fingerprint.h"
#include "train/state_bytes.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

constexpr const char* kStore = "tokens.h5";

void put_link(const fs::path& file, const fs::path& as) {
  if (fs::exists(file)) fs::create_symlink(fs::canonical(file), as);
}

// The run as it stood before its training: the stages that it did, its samples and its teacher's cache. What
// would be made anew is made in the scratch folder.
LoadedRecipe set_up(const ReplayPlan& plan, const fs::path& scratch) {
  auto loaded = plan.recipe;
  auto& recipe = loaded.recipe;
  fs::copy_file(plan.folder / "stages.json", scratch / "stages.json");
  write_text(scratch / "recipe.yaml", loaded.resolved);
  put_link(plan.folder / kRecordsFile, scratch / kRecordsFile);
  put_link(recipe.data.cache.empty() ? plan.folder / kStore : fs::path(recipe.data.cache), scratch / kStore);
  recipe.data.cache.clear();
  if (recipe.teacher) {
    auto there = plan.recipe.recipe;
    there.run.folder = plan.folder.string();
    const auto cache = teacher_cache_folder(there);
    make_folder(scratch / "teacher");
    if (fs::is_directory(cache))
      for (const auto& entry : fs::directory_iterator(cache))
        if (entry.is_regular_file()) put_link(entry.path(), scratch / "teacher" / entry.path().filename());
    recipe.teacher->cache.clear();
  }
  recipe.run.folder = scratch.string();
  return loaded;
}

int64_t threads_of(const Fingerprint& fingerprint) {
  int64_t threads = 0;
  for (const auto& [name, value] : fingerprint)
    if (name == "train.threads") std::from_chars(value.data(), value.data() + value.size(), threads);
  return std::max<int64_t>(threads, 0);
}

bool same_bits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}

std::string two_numbers(const std::string& name, double now, double then) {
  return fmt::format("{} is {} ({:a}) now, {} ({:a}) in the record", name, now, now, then, then);
}

// What of STEP differs between what was computed and the record; empty where every bit is equal. What the
// record does not have is not compared.
std::string difference_at(int64_t step, const StepsRecord& now, const StepsRecord& then) {
  const auto text = [&](const std::map<int64_t, std::string> StepsRecord::*of, const char* what) {
    const auto &ours = now.*of, &theirs = then.*of;
    const auto own = ours.find(step), recorded = theirs.find(step);
    if (own == ours.end() || recorded == theirs.end() || own->second == recorded->second)
      return std::string();
    return fmt::format("{} {} now, {} in the record", what, printable(own->second),
                       printable(recorded->second));
  };
  if (auto found = text(&StepsRecord::samples, "its epoch and samples are"); !found.empty()) return found;
  if (auto found = text(&StepsRecord::batches, "the hash of all samples so far is"); !found.empty())
    return found;
  const auto row = now.rows.find(step), recorded = then.rows.find(step);
  if (recorded == then.rows.end()) return "the record has no row of it (metrics.jsonl)";
  if (row == now.rows.end()) return "it was not computed";
  for (const auto& [name, value] : recorded->second) {
    const auto same_name = [&name = name](const auto& scalar) { return scalar.first == name; };
    const auto found = std::find_if(row->second.begin(), row->second.end(), same_name);
    if (found == row->second.end()) return fmt::format("{} is in the record alone", printable(name));
    if (!same_bits(found->second, value)) return two_numbers(printable(name), found->second, value);
  }
  if (row->second.size() != recorded->second.size()) return "it was skipped now, and not in the record";
  if (auto found = text(&StepsRecord::weights, "the hash of the weights after it is"); !found.empty())
    return found;
  return "";
}

std::string held_out_difference(int64_t step, const StepsRecord& now, const StepsRecord& then) {
  const auto own = now.held_out.find(step), recorded = then.held_out.find(step);
  if (own == now.held_out.end() || recorded == then.held_out.end() ||
      same_bits(own->second, recorded->second))
    return "";
  return two_numbers("the held-out loss after it", own->second, recorded->second);
}

struct Enough {};  // thrown out of the training behind the last step that is wanted

class Replaying {
 public:
  explicit Replaying(const ReplayPlan& plan)
      : plan_(plan),
        kept_(kept_checkpoints(plan.folder)),
        run_(set_up(plan, scratch_.path())),
        job_(training_job(run_, notes_)),
        spec_(run_.recipe().train),
        progress_("replay", plan.chosen(), "steps") {
    spec_.checkpoint = {.every = 0, .keep_last = 1, .resume_inexact = false};
    if (kept_.empty()) throw Failure("the run's checkpoints are gone since they were listed");
    const auto& then = kept_.back().state.fingerprint;
    spec_.threads = threads_of(then);
    const auto now = full_fingerprint(spec_, job_, usable_threads(spec_.threads));
    if (const auto different = differences(without_machine(then), without_machine(now)); !different.empty())
      throw RecipeError(fmt::format(
          "{}: --replay: the training was made from something else than is there now ({}); put that back, "
          "and start retort in the folder that the recipe's paths begin in",
          printable(plan.folder.string()), different));
    result_.elsewhere = differences(then, now);
    spec_.checkpoint.resume_inexact = !result_.elsewhere.empty();
  }

  Replay all() {
    for (const auto& stretch : plan_.stretches)
      if (stretch.chosen > 0 && !result_.differs) compute(stretch);
    progress_.finish();
    return std::move(result_);
  }

 private:
  const KeptCheckpoint* checkpoint(int64_t steps) const {
    for (const auto& kept : kept_)
      if (kept.steps == steps) return &kept;
    return nullptr;
  }

  void compute(const ReplayStretch& stretch) {
    auto job = job_;
    job.folder = scratch_.path() / fmt::format("from-{}", stretch.from);
    make_folder(job.folder / "checkpoints");
    std::string batches;
    if (stretch.from > 0) {
      const auto* begin = checkpoint(stretch.from);
      if (!begin) throw Failure(fmt::format("the checkpoint after step {} is gone", stretch.from));
      put_link(begin->folder, job.folder / "checkpoints" / begin->folder.filename());
      batches = begin->state.batches;
    }
    std::map<int64_t, std::string> weights;
    const auto last = stretch.from + stretch.chosen;
    TrainWatch watch;
    watch.on_step = [&](const StepRecord& step) {
      progress_.update(++result_.computed, fmt::format("step {}, loss {:.4f}", step.step, step.loss));
      if (plan_.record.weights.contains(step.step)) weights[step.step] = hash_weights(job);
      if (step.step >= last || loss_differs(step)) throw Enough{};
    };
    watch.on_note = [&](const std::string& text) { progress_.note(text); };
    try {
      train(spec_, job, watch);
    } catch (const Enough&) {}
    auto now = read_steps(job.folder);
    now.weights = std::move(weights);
    add_batches(now, std::move(batches));
    compare(stretch.from, stretch.chosen, now);
    std::error_code ignored;
    fs::remove_all(job.folder, ignored);
  }

  // A first look, so that nothing is computed beyond a difference; compare() says what differs.
  bool loss_differs(const StepRecord& step) const {
    const auto recorded = plan_.record.rows.find(step.step);
    if (recorded == plan_.record.rows.end()) return true;
    for (const auto& [name, value] : recorded->second)
      if (name == "loss") return std::isfinite(step.loss) && !same_bits(step.loss, value);
    return true;
  }

  std::string hash_weights(const TrainJob& job) const {
    auto all = job.trainables;
    all.insert(all.end(), job.auxiliary.begin(), job.auxiliary.end());
    const auto file = job.folder / fmt::format("weights-{}.safetensors", result_.computed);
    save_tensors(file, bytes_of(all));
    auto hash = sha256_file(file);
    fs::remove(file);
    return hash;
  }

  void add_batches(StepsRecord& now, std::string batches) const {
    for (const auto& [step, text] : now.samples) {
      std::vector<int64_t> chosen;
      for (auto at = text.find('\t'); at < text.size(); at = text.find(' ', at + 1)) {
        int64_t index = -1;
        std::from_chars(text.data() + at + 1, text.data() + text.size(), index);
        chosen.push_back(index);
      }
      batches = batches_after(batches, job_.samples, chosen);
      now.batches[step] = batches;
    }
  }

  void compare(int64_t from, int64_t wanted, const StepsRecord& now) {
    const auto differ = [&](int64_t step, std::string what) {
      result_.differs = step;
      result_.what = std::move(what);
    };
    if (auto found = held_out_difference(from, now, plan_.record); !found.empty())
      return differ(from, std::move(found));
    for (const auto& [step, row] : now.rows) {
      if (auto found = difference_at(step, now, plan_.record); !found.empty())
        return differ(step, std::move(found));
      if (auto found = held_out_difference(step, now, plan_.record); !found.empty())
        return differ(step, std::move(found));
      if (now.weights.contains(step)) result_.weights.push_back(step);
      if (plan_.record.batches.contains(step)) result_.batches.push_back(step);
    }
    if (const auto made = static_cast<int64_t>(now.rows.size()); made < wanted)
      return differ(from + made + 1, "the training ended before it now");
    for (const auto& [step, loss] : now.held_out) result_.evaluations += plan_.record.held_out.contains(step);
  }

  const ReplayPlan& plan_;
  const ScratchFolder scratch_{"retort-replay"};
  const std::vector<KeptCheckpoint> kept_;
  std::vector<std::string> notes_;
  Run run_;
  const TrainJob job_;
  TrainSpec spec_;
  Progress progress_;
  Replay result_;
};

}  // namespace

Replay replay(const ReplayPlan& plan) { return Replaying(plan).all(); }

}  // namespace retort
