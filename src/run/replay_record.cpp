// What a run's files say of its steps, and which of these can be computed again.
#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "report/ledger.h"
#include "run/replay_record.h"
#include "train/checkpoint.h"
#include "train/run_log.h"
#include "train/state_bytes.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

void read_rows(const fs::path& folder, StepsRecord& record) {
  for (auto& row : read_metrics(folder / "metrics.jsonl")) {
    const auto& first = row.scalars.empty() ? "" : row.scalars.front().first;
    if (first == "held_out_loss") record.held_out[row.step] = row.scalars.front().second;
    else if (first == "loss") record.rows[row.step] = std::move(row.scalars);
  }
}

void read_samples(const fs::path& folder, StepsRecord& record) {
  const auto file = folder / kBatchesFile;
  if (!fs::exists(file)) return;  // an earlier version kept none
  const auto text = read_text(file);
  for (size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    int64_t step = 0;
    const auto parsed = std::from_chars(text.data() + at, text.data() + end, step);
    const auto rest = static_cast<size_t>(parsed.ptr - text.data()) + 1;
    if (parsed.ec == std::errc() && rest < end) record.samples[step] = text.substr(rest, end - rest);
    at = end + 1;
  }
}

// Of the ledger, what stands behind the last beginning of the training: one before it was of other weights.
void read_hashes(const fs::path& folder, StepsRecord& record) {
  for (const auto& entry : read_ledger(folder)) {
    const auto& facts = entry.facts;
    if (!facts.is_object() || facts.contains("training")) continue;  // of rounds, or without the teacher
    if (entry.event == "training started") record.batches.clear(), record.weights.clear();
    const auto step = facts.contains("step") && facts["step"].is_number_integer()
                          ? facts["step"].get<int64_t>()
                          : int64_t{0};
    const auto text = [&](const char* name) {
      return facts.contains(name) && facts[name].is_string() ? facts[name].get<std::string>() : "";
    };
    if (step <= 0) continue;
    if (const auto hash = text("batches_sha256"); !hash.empty()) record.batches[step] = hash;
    const auto name = CheckpointName::from_folder(fs::path(text("file")).parent_path().filename().string());
    if (const auto hash = text("weights_sha256"); !hash.empty() && name && name->forests == 0)
      record.weights[name->steps] = hash;
  }
}

}  // namespace

StepsRecord read_steps(const fs::path& folder) {
  StepsRecord record;
  read_rows(folder, record);
  read_samples(folder, record);
  read_hashes(folder, record);
  return record;
}

std::vector<KeptCheckpoint> kept_checkpoints(const fs::path& folder) {
  std::vector<KeptCheckpoint> kept;
  if (!fs::is_directory(folder / "checkpoints")) return kept;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints")) {
    const auto name = CheckpointName::from_folder(entry.path().filename().string());
    if (!name || name->forests > 0 || !entry.is_directory()) continue;
    const auto file = entry.path() / "state.json";
    kept.push_back({name->steps, entry.path(), run_state(read_json(file), file.string())});
  }
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.steps < b.steps; });
  return kept;
}

int64_t ReplayPlan::chosen() const {
  int64_t sum = 0;
  for (const auto& stretch : stretches) sum += stretch.chosen;
  return sum;
}

void draw_steps(std::vector<ReplayStretch>& stretches, int64_t steps, int64_t count, uint64_t seed) {
  int64_t left = count;
  for (const auto before : shuffled(steps, Draws(seed, "replay"))) {
    if (left == 0) return;
    for (auto& stretch : stretches) {
      if (before < stretch.from || before >= stretch.from + stretch.length) continue;
      ++stretch.chosen;
      --left;
    }
  }
}

ReplayPlan plan_replay(const fs::path& folder, int64_t count, uint64_t seed) {
  ReplayPlan plan{folder, {}, 0, {}, {}};
  const auto shown = printable(folder.string());
  const auto file = folder / "recipe.yaml";
  plan.recipe = parse_recipe(read_text(file), file.string());
  const auto& recipe = plan.recipe.recipe;
  if (recipe.adapter.kind == "none")
    throw RecipeError(fmt::format("{}: --replay: nothing was trained (adapter.kind: none)", shown));
  if (recipe.distill && recipe.distill->on_policy)
    throw RecipeError(
        fmt::format("{}: --replay: rounds (distill.on_policy) learn from answers of the model itself, which "
                    "are not kept; only a training of samples can be computed again",
                    shown));
  plan.record = read_steps(folder);
  const auto kept = kept_checkpoints(folder);
  if (plan.record.rows.empty() || kept.empty())
    throw RecipeError(fmt::format("{}: --replay: it holds no {}; a finished training keeps both", shown,
                                  kept.empty() ? "whole checkpoint" : "row of a step (metrics.jsonl)"));
  for (const auto& checkpoint : kept)
    if (!plan.record.weights.contains(checkpoint.steps) && checkpoint.steps > 0)
      plan.record.weights[checkpoint.steps] = weights_hash(checkpoint.folder);  // of an earlier version
  plan.steps = plan.record.rows.rbegin()->first;
  // What was made before the run went on elsewhere (train.checkpoint.resume_inexact) cannot be made here.
  const auto& last = kept.back().state;
  const auto add = [&](int64_t from, bool usable) {
    if (!plan.stretches.empty()) {
      auto& before = plan.stretches.back();
      before.length = std::min(before.length, from - before.from);
    }
    if (usable && from < plan.steps) plan.stretches.push_back({from, plan.steps - from, 0});
  };
  add(0, !last.result.resumed_inexactly);
  for (const auto& checkpoint : kept)
    if (checkpoint.steps > 0) add(checkpoint.steps, checkpoint.state.fingerprint == last.fingerprint);
  if (plan.stretches.empty())
    throw RecipeError(
        fmt::format("{}: --replay: the run went on inexactly (train.checkpoint.resume_inexact), and keeps no "
                    "checkpoint from then on but its last; train.checkpoint.keep_last keeps more",
                    shown));
  draw_steps(plan.stretches, plan.steps, count, seed);
  return plan;
}

}  // namespace retort
