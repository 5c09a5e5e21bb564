#include "cli/teacher.h"

#include <chrono>

#include "base/error.h"
#include "report/progress.h"

namespace retort {

TeacherOfRun::TeacherOfRun(const Recipe& recipe, const Tokenizer& student, const ChatTemplate& chat, const std::vector<Sample>& samples)
    : recipe_(recipe), student_(student), chat_(chat), samples_(samples), distill_(recipe.distill.value_or(DistillSpec{})) {}

std::filesystem::path TeacherOfRun::cache_folder() const {
  const auto& named = recipe_.teacher->cache;
  return named.empty() ? std::filesystem::path(recipe_.run.folder) / "teacher" : std::filesystem::path(named);
}

Teacher& TeacherOfRun::teacher() {
  if (!teacher_) teacher_ = load_teacher(*recipe_.teacher, student_, cache_folder());
  return *teacher_;
}

TeachJob TeacherOfRun::job() {
  const auto& spec = *recipe_.teacher;
  auto& asked = teacher();
  const auto identity = identity_of(spec, asked, chat_, distill_.temperature);
  return {*asked.loaded.model, asked.compute, asked.vocabulary, distill_.temperature, samples_, cache_folder(), cache_provenance(identity, samples_, spec.keep), spec.keep,
          spec.row_tokens,     spec.threads,  0,                1};
}

std::string TeacherOfRun::complete(int64_t shard, int64_t shards) {
  auto work = job();
  work.shard = shard, work.shards = shards;
  const auto start = std::chrono::steady_clock::now();
  std::optional<Progress> progress;
  const auto done = teach(work, [&](const TeachProgress& state) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (state.parts == 0) return;
    if (!progress) progress.emplace("teach", state.positions, "positions");
    progress->update(state.positions_done, fmt::format("{:.0f} teacher tokens/s", static_cast<double>(state.tokens) / std::max(seconds, 1e-9)));
  });
  progress.reset();
  const TeacherCache cache(work.folder, work.made_from, plan_cache(samples_, work.keep.part_positions), work.keep, work.vocabulary);
  const auto missing = cache.missing_parts().size();
  return fmt::format("{}: {} of {} positions, {} ({:.1f} bytes a position){}{}", cache.folder().string(), cache.positions(), cache.planned_positions(), bytes(cache.file_bytes()),
                     static_cast<double>(cache.file_bytes()) / static_cast<double>(std::max<int64_t>(cache.positions(), 1)), missing ? fmt::format("; {} parts are left to other shards", missing) : "",
                     done.parts == 0 ? "; nothing was missing" : "");
}

Objective TeacherOfRun::objective() {
  if (recipe_.teacher->live) {
    auto& asked = teacher();
    const std::shared_ptr<const Model> model = std::move(asked.loaded.model);
    const auto live = LiveTeacher{model, asked.compute, asked.vocabulary};
    teacher_.reset();
    return live_distillation(distill_, live);
  }
  complete();
  const auto work = job();
  auto cache = open_whole_cache(work);
  teacher_.reset();   // the student needs the memory
  return cached_distillation(distill_, std::move(cache));
}

}  // namespace retort
